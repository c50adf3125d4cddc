"""Questions that many requests have for the log: where partitions end, and which topics there are."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import LogError, TopicMismatch, Unavailable
from headrace.events.position import Catalog, TopicPartition
from headrace.events.seen import Print
from headrace.log.port import Log, OffsetRange, TopicInfo

_LISTING_AGE_S = 5.0
"""A topic that is not known is looked for again after this long, whoever asks and however often."""

Ranges = Mapping[TopicPartition, OffsetRange]


class Inquiry:
    """Asks the log once for all that is wanted at a time; the next question is put when that is answered.

    What is known already is answered without it: ends only rise.
    """

    def __init__(self, log: Log, clock: Clock = SYSTEM_CLOCK) -> None:
        self._log = log
        self._clock = clock
        self._ends: dict[TopicPartition, int] = {}
        self._topics: Mapping[str, TopicInfo] = {}
        self._catalog = Catalog("", {})
        self._listed_s = -_LISTING_AGE_S
        self._wanted: set[TopicPartition] = set()
        self._answer: asyncio.Future[Ranges] | None = None
        """Of what is wanted and not asked yet."""
        self._asking: asyncio.Task[None] | None = None
        self._listing: asyncio.Task[Sequence[TopicInfo]] | None = None

    async def close(self) -> None:
        """Ask nothing more; who waits for an answer gets Unavailable."""
        running = [task for task in (self._asking, self._listing) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    # --- where partitions end

    def has_reached(self, place: TopicPartition, offset: int) -> bool:
        """Whether the partition is known to reach up to before this offset."""
        return self._ends.get(place, 0) >= offset

    def note(self, ends: Mapping[TopicPartition, int]) -> None:
        """Take in how far partitions reach, as whoever has appended to them was told."""
        for place, end in ends.items():
            self._ends[place] = max(end, self._ends.get(place, 0))

    def ranges(self, places: Collection[TopicPartition]) -> "asyncio.Future[Ranges]":
        """What these partitions hold, asked after this call; those that are not there are left out.

        The answer is shared: shield it, or look at it when it is done. It fails with LogError.
        """
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
            self._answer.add_done_callback(_look_at)
        self._wanted.update(places)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="inquiry of ranges")
        return self._answer

    async def _ask(self) -> None:
        answer: asyncio.Future[Ranges] | None = None
        try:
            while self._answer is not None:
                places, answer = sorted(self._wanted), self._answer
                self._wanted, self._answer = set(), None
                try:
                    found = await self._found(places)
                except LogError as error:
                    answer.set_exception(error)
                    continue
                self.note({place: held.end for place, held in found.items()})
                answer.set_result(found)
        finally:
            self._asking = None
            for pending in (answer, self._answer):
                if pending is not None and not pending.done():
                    pending.set_exception(Unavailable("the worker stops and asks the log nothing more"))
            self._answer = None

    async def _found(self, places: Sequence[TopicPartition]) -> Ranges:
        try:
            return await self._log.offsets(places)
        except TopicMismatch:
            found: dict[TopicPartition, OffsetRange] = {}
            for place in places if len(places) > 1 else ():
                found.update(await self._found([place]))
            return found

    # --- which topics there are

    @property
    def catalog(self) -> Catalog:
        """Identity of the log, and of the topics that are known."""
        return self._catalog

    def know(self, infos: Iterable[TopicInfo]) -> None:
        """Take topics in as they are now."""
        topics = {**self._topics, **{info.name: info for info in infos}}
        for place in [*self._ends]:
            if topics.get(place.topic) != self._topics.get(place.topic):
                # Recreated: the ends of its predecessor are not its own.
                del self._ends[place]
        ids = {name: info.topic_id for name, info in topics.items()}
        self._topics, self._catalog = topics, Catalog(self._log.cluster_id, ids)

    def exists(self, place: TopicPartition) -> bool:
        """Whether a known topic has this partition."""
        info = self._topics.get(place.topic)
        return info is not None and place.partition < info.partitions

    def wants_listing(self, prints: Iterable[Print]) -> bool:
        """Whether asking for all topics now may tell of partitions that are not known."""
        if self._clock.monotonic() - self._listed_s < _LISTING_AGE_S:
            return False
        return any(self._catalog.place_of(print_) is None for print_ in prints)

    def listing(self) -> "asyncio.Future[Sequence[TopicInfo]]":
        """All topics, asked now unless somebody asks already; they are known when it is done.

        The answer is shared: shield it, or look at it when it is done. It fails with LogError.
        """
        if self._listing is None:
            self._listed_s = self._clock.monotonic()
            self._listing = asyncio.create_task(self._list(), name="inquiry of topics")
            self._listing.add_done_callback(_look_at)
        return self._listing

    async def _list(self) -> Sequence[TopicInfo]:
        try:
            infos = await self._log.topics()
            self.know(infos)
            return infos
        finally:
            self._listing = None


def _look_at(answer: "asyncio.Future[Any]") -> None:
    """Whoever asked may be gone by the time it fails; asyncio would complain of that."""
    if not answer.cancelled():
        answer.exception()
