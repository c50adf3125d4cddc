"""What a task is to run next: fetched events, as far as they may be handed out, cut into portions."""

import asyncio
from collections.abc import Iterator, Sequence

from headrace.clock import Clock
from headrace.events.position import TopicPartition
from headrace.flow.admission import Admission
from headrace.flow.causality import Followed
from headrace.flow.group import Group
from headrace.flow.isolation import Isolation
from headrace.flow.portion import Portion
from headrace.flow.room import Room
from headrace.log.port import Chunk, Reader
from headrace.settings import Settings
from headrace.tables.view import PartitionView

_RECHECK_S = 5.0
"""How often a held event's stamp is held against the log again: the log may lose what it waits for."""


class Intake:
    """Fetches for one task. While an input is held the others are read on."""

    def __init__(
        self,
        reader: Reader,
        admission: Admission,
        *,
        group: Group,
        view: PartitionView,
        isolation: Isolation,
        settings: Settings,
        room: Room,
        clock: Clock,
        followed: Sequence[Followed] = (),
    ) -> None:
        self._reader = reader
        self._admission = admission
        self._group = group
        self._view = view
        self._isolation = isolation
        self._settings = settings
        self._room = room
        self._clock = clock
        self._followed = followed
        self._name = f"{group.name}/{view.partition}"
        self._paused: frozenset[TopicPartition] = frozenset()
        self._fetching: asyncio.Task[Sequence[Chunk]] | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Let the waiting end."""
        self._is_stopped = True
        if self._fetching is not None:
            self._fetching.cancel()

    def close(self) -> None:
        """No more is fetched."""
        self._room.lay_down(self._name)

    async def portions(self) -> list[Portion]:
        """What may be handed out of what has arrived, once something has; it may be nothing.

        Cancel: nothing is lost but to the task that is cancelled. Raises: LogError.
        """
        fetched = await self._fetch()
        replay = self._group.replay
        events = await self._admission.take([chunk for chunk in fetched if chunk.topic != replay])
        events += [chunk for chunk in fetched if chunk.topic == replay and not len(chunk)]
        if (full := self._admission.full()) != self._paused:
            self._paused = full
            self._reader.pause(full)
        portions = [Portion(events, self._isolation.is_guarding)] if events else []
        return portions + list(self._letters(fetched))

    async def _fetch(self) -> Sequence[Chunk]:
        """What has arrived; nothing when the task stops, or when what is held is to be looked at again."""
        if self._is_stopped:
            return ()
        self._room.lay_down(self._name)
        records_max = self._room.unit_records_max(self._settings.unit_records_max)
        fetch = self._reader.fetch(records_max=records_max, bytes_max=self._settings.unit_bytes_max)
        self._fetching = asyncio.create_task(fetch, name=f"fetch {self._name}")
        try:
            if self._admission.is_holding:
                await self._wait_holding(self._fetching)
            else:
                await asyncio.wait({self._fetching})
            is_done = self._fetching.done() and not self._fetching.cancelled()
            fetched = self._fetching.result() if is_done else ()
        finally:
            self._fetching.cancel()
            self._fetching = None
        if fetched:
            self._room.take_up(self._name)
        for chunk in fetched:
            self._view.input_ends[TopicPartition(chunk.topic, chunk.partition)] = chunk.high_watermark
        return fetched

    async def _wait_holding(self, fetching: "asyncio.Task[Sequence[Chunk]]") -> None:
        """Wait for more events, or until a global table moves on, but not for ever."""
        if self._admission.must_look:
            return
        look = asyncio.create_task(self._clock.sleep(_RECHECK_S), name="held look")
        moves = [
            asyncio.create_task(each.changed.wait(), name=f"global table for {self._name}")
            for each in self._followed
        ]
        try:
            await asyncio.wait({fetching, look, *moves}, return_when=asyncio.FIRST_COMPLETED)
            if look.done():
                self._admission.recheck()
        finally:
            for each in (look, *moves):
                each.cancel()

    def _letters(self, chunks: Sequence[Chunk]) -> Iterator[Portion]:
        """Each replayed dead letter by itself."""
        for chunk in chunks:
            if chunk.topic == self._group.replay:
                for index in range(len(chunk)):
                    rest = chunk.tail(index)
                    yield Portion([rest.head(1) if len(rest) > 1 else rest], is_guarded=True)
