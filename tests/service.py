"""A service as tests run it: in this process, on a log of the test's own, until nothing is left to do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from headrace import App, Delivery, Position, Sent, Settings, Table, Topic, TopicPartition
from headrace.causes import first_cause
from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import HeadraceError
from headrace.events.envelope import Headers
from headrace.log.port import Append, Log
from headrace.log.simulated.log import SimulatedLog
from headrace.runtime import Runtime
from headrace.tables.store import StoreEngine
from headrace.tables.view import PartitionView, ViewState

K = TypeVar("K")
V = TypeVar("V")

PATIENCE_S = 30.0
"""How long a test waits for what must happen; a machine under load needs some."""


class CommittedTable(Generic[K, V]):
    """The committed rows of one table, over all partitions that the worker serves."""

    def __init__(self, runtime: Runtime, table: Table[K, V]) -> None:
        self._runtime = runtime
        self._table = table

    def __getitem__(self, key: K) -> V:
        raw = self._runtime.committed(self._table, key)
        if raw is None:
            raise KeyError(key)
        return self._table.values.decoded(raw)  # type: ignore[no-any-return]

    def rows(self) -> dict[K, V]:
        """Every row."""
        return dict(self._scan())

    def _scan(self) -> Iterator[tuple[K, V]]:
        prefix = self._table.row_prefix
        for view in self._runtime.views():
            if view.group != self._table.group:
                continue
            frozen = view.freeze()
            for key, raw in frozen.scan(prefix, prefix[:-1] + b"\1"):
                yield self._table.keys.from_store(key[len(prefix) :]), self._table.values.decoded(raw)
            frozen.close()


class Service:
    """One worker of an app, running."""

    def __init__(self, app: App, runtime: Runtime, log: Log) -> None:
        self.app = app
        self.runtime = runtime
        self.log = log
        self._run = asyncio.create_task(runtime.run(), name="runtime under test")
        self._is_settled = False

    # --- what goes in

    async def send(self, topic: Topic[K, V], value: V | None, *, key: K | None = None) -> Sent:
        """Send one event, in a transaction of its own, as a request would."""
        async with self.runtime.sending():
            return await topic.send(value=value, key=key)

    async def send_all(self, topic: Topic[K, V], events: Iterable[tuple[K | None, V | None]]) -> None:
        """Send these events by key, all in one transaction."""
        async with self.runtime.sending():
            for key, value in events:
                await topic.send(value=value, key=key)

    async def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int = 0,
        headers: Headers = (),
        timestamp_ms: int = 0,
    ) -> int:
        """Append a record as a producer that knows nothing of headrace; the offset after it."""
        return await append(
            self.log, topic, [(key, value)], partition=partition, headers=headers, timestamp_ms=timestamp_ms
        )

    # --- what comes out

    def table(self, name: str) -> CommittedTable[Any, Any]:
        """The committed rows of a table."""
        return CommittedTable(self.runtime, self.app.declarations.tables[name])

    def position(self) -> Position:
        """What the partitions of this worker contain."""
        merged = Position()
        for view in self.runtime.views():
            merged = merged.merge(view.position)
        return merged

    async def outputs(self, topic: Topic[K, V]) -> list[Delivery[Any]]:
        """Every committed record of a topic, partition after partition."""
        return await committed(self.log, topic)

    # --- when

    async def until_applied(self) -> None:
        """Return once every partition of this worker contains its inputs up to their ends."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                ends = await self._ends()
                behind = next((v for v in self.runtime.views() if not _has_reached(v, ends)), None)
                if behind is None:
                    return
                await self.until_change(behind)

    async def until_followed(self) -> None:
        """Return once every global table here contains its inputs up to their ends."""
        async with asyncio.timeout(PATIENCE_S):
            for followed in self.runtime._globals.values():
                ends = await self._ends()
                mine = Position({place: end for place, end in ends.items() if place.topic in followed.inputs})
                while not (followed.is_served and followed.position.covers(mine)):
                    await self._until_set(followed.changed)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return once this is so; raise what ended the run instead."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():
                if self._run.done():
                    self._is_settled = True
                    raise first_cause(self._run.exception() or AssertionError("the run has ended"))
                await asyncio.sleep(0)

    async def until_replayed(self) -> None:
        """Return once every task here has finished what lies in its replay input, too."""
        async with asyncio.timeout(PATIENCE_S):
            for group in self.runtime._groups.values():
                places = [TopicPartition(group.replay, p) for p in range(group.partitions)]
                for place, held in (await self.log.offsets(places)).items():
                    view = self.runtime.view(group.name, place.partition)
                    while view is not None and view.replay_offset_next < held.end:
                        await self.until_change(view)

    async def until_change(self, view: PartitionView) -> None:
        """Return at the next change of a partition; raise what ended the run instead."""
        await self._until_set(view.changed)

    async def _until_set(self, event: asyncio.Event) -> None:
        changed = asyncio.create_task(event.wait(), name="change")
        # The event must be the one of this loop turn, so the task may not be the first to ask for it.
        try:
            await asyncio.wait({changed, self._run}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        if self._run.done():
            self._is_settled = True
            raise first_cause(self._run.exception() or AssertionError("the run has ended"))

    async def _ends(self) -> Mapping[TopicPartition, int]:
        inputs = {agent.topic.name for agent in self.app.declarations.agents}
        infos = await self.log.describe(sorted(inputs))
        places = [TopicPartition(info.name, p) for info in infos.values() for p in range(info.partitions)]
        return {place: held.end for place, held in (await self.log.offsets(places)).items()}

    async def until_ready(self) -> None:
        """Return once every partition is served; raise what ended the run instead."""
        ready = asyncio.create_task(self.runtime.ready.wait(), name="ready")
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait({ready, self._run}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._run.done():
            self._is_settled = True
            raise first_cause(self._run.exception() or AssertionError("the run has ended"))

    # --- how it ends

    async def failure(self) -> BaseException:
        """What ended the run by itself."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait({self._run})
        self._is_settled = True
        ended_by = self._run.exception()
        error = first_cause(ended_by) if ended_by else None
        assert error is not None, "the run ended without an error"
        return error

    async def standstill(self) -> HeadraceError:
        """What the first partition stands still for, once one does."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                views = self.runtime.views()
                stopped = next((view.stopped_by for view in views if view.stopped_by is not None), None)
                if stopped is not None:
                    return stopped
                changes = [asyncio.create_task(view.changed.wait(), name="change") for view in views]
                await asyncio.wait({*changes, self._run}, return_when=asyncio.FIRST_COMPLETED)
                for change in changes:
                    change.cancel()
                assert not self._run.done(), "the run has ended"

    async def begin_stop(self) -> None:
        """Ask for a stop, and return once every task of the run has heard of it."""
        assert self.runtime._crew is not None
        keepers = list(self.runtime._crew.keepers.values())
        self.runtime.stop()
        async with asyncio.timeout(PATIENCE_S):
            for keeper in keepers:
                await keeper._stopping.wait()

    async def stop(self) -> None:
        """Finish and commit the units in hand, close; raise what went wrong."""
        self._is_settled = True
        self.runtime.stop()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait({self._run})
        ended_by = self._run.exception()
        error = first_cause(ended_by) if ended_by else None
        if error is not None:
            raise error

    async def crash(self) -> None:
        """End the run where it stands: units in flight are dropped, nothing more is written."""
        self._is_settled = True
        self._run.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait({self._run})
        if not self._run.cancelled():
            self._run.exception()  # what closing after a crash meets is no matter

    async def settle(self) -> None:
        """Stop, unless the test has ended the run by itself."""
        if not self._is_settled:
            await self.stop()


def _has_reached(view: PartitionView, ends: Mapping[TopicPartition, int]) -> bool:
    return view.state is ViewState.SERVING and all(
        view.position[place] >= ends[place] for place in view.position
    )


@asynccontextmanager
async def running(
    app: App,
    *,
    log: Log | None = None,
    engine: StoreEngine | None = None,
    settings: Settings | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> AsyncIterator[Service]:
    """A worker of this app, ready; stopped at the end of the block.

    Without a log it has a simulated one for itself. Raises: what kept it from becoming ready.
    """
    log = log or SimulatedLog()
    runtime = app.current = Runtime(
        app.declarations, settings or quick(), log=log, engine=engine, clock=clock
    )
    service = Service(app, runtime, log)
    try:
        await service.until_ready()
        yield service
        await service.settle()
    finally:
        await service.crash()


def quick(**given: Any) -> Settings:
    """Settings for tests: a free port, rows in memory, hardly a wait before a take-over."""
    return Settings(**{"http": "127.0.0.1:0", "store": "memory", "reopen_backoff_s": 0.001, **given})


async def append(
    log: Log,
    topic: str,
    records: Iterable[tuple[bytes | None, bytes | None]],
    *,
    partition: int = 0,
    headers: Headers = (),
    timestamp_ms: int = 0,
) -> int:
    """Append records to a log as a foreign producer does; the offset after the last one."""
    writer = await log.writer(f"foreign producer of {topic}")
    outgoing = [(key, value, headers, timestamp_ms) for key, value in records]
    offsets = await writer.commit([Append(topic, partition, outgoing)])
    await writer.close()
    return offsets[TopicPartition(topic, partition)]


async def committed(log: Log, topic: Topic[Any, Any]) -> list[Delivery[Any]]:
    """Every committed record of a topic, partition after partition."""
    found: list[Delivery[Any]] = []
    info = (await log.describe([topic.name]))[topic.name]
    for partition in range(info.partitions):
        place = TopicPartition(topic.name, partition)
        held = (await log.offsets([place]))[place]
        offset_next = held.start
        reader = await log.reader({place: offset_next})
        while offset_next < held.end:
            for chunk in await reader.fetch(records_max=10_000, bytes_max=2**30):
                found += [Delivery(topic, chunk, i, topic.decode(v)) for i, v in enumerate(chunk.values)]
                offset_next = chunk.offset_next
        await reader.close()
    return found
