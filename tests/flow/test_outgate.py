"""The worker's own writer while the worker stops: everybody who sends through it hears what became of it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from headrace.errors import CommitUnknown, WorkerStopping
from headrace.events.position import TopicPartition
from headrace.flow.outgate import Outgate
from headrace.log.port import Append, Closing, TopicSpec, Writer
from headrace.log.simulated.log import SimulatedLog
from tests.http.till import ONE, Till, worker
from tests.service import PATIENCE_S


class HeldLog(SimulatedLog):
    """Opens a writer, or commits, only when it may."""

    def __init__(self, *, holds_commits: bool) -> None:
        super().__init__()
        self.is_asked, self.may_go = asyncio.Event(), asyncio.Event()
        self._holds_commits = holds_commits

    async def writer(self, transactional_id: str) -> Writer:
        if self._holds_commits:
            return _HeldWriter(await super().writer(transactional_id), self)
        await self.hold()
        return await super().writer(transactional_id)

    async def hold(self) -> None:
        self.is_asked.set()
        await self.may_go.wait()


class _HeldWriter:
    def __init__(self, writer: Writer, log: HeldLog) -> None:
        self._writer, self._log = writer, log

    async def commit(
        self, appends: Sequence[Append], closing: Closing | None = None
    ) -> Mapping[TopicPartition, int]:
        await self._log.hold()
        return await self._writer.commit(appends, closing)

    async def close(self) -> None:
        await self._writer.close()


@asynccontextmanager
async def stopped(log: HeldLog) -> AsyncIterator[tuple[Outgate, "list[asyncio.Task[object]]"]]:
    """A writer that is stopped while it holds one purchase, and what waits for it."""
    topics = await log.provision([TopicSpec(name="buys", partitions=1)])
    gate = Outgate("shop", "shop-0", log, topics, record_bytes_max=1_000)
    running = asyncio.create_task(gate.run(), name="outgate")
    sends = [asyncio.create_task(_send(gate), name="first")]
    async with asyncio.timeout(PATIENCE_S):
        await log.is_asked.wait()
        sends.append(asyncio.create_task(_send(gate), name="second"))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
        yield gate, sends


async def _send(gate: Outgate) -> object:
    outbox = gate.outbox()
    outbox.put("buys", 0, (b"1", b"{}", (), 0))
    return await gate.commit(outbox)


async def test_what_a_stopping_worker_has_not_begun_to_commit_is_told_so() -> None:
    log = HeldLog(holds_commits=False)
    async with stopped(log) as (gate, sends):
        for send in sends:
            with pytest.raises(WorkerStopping, match="stopped before this was sent"):
                await send
        with pytest.raises(WorkerStopping, match="sends nothing any more"):
            await _send(gate)
    assert not log.cluster.partition(TopicPartition("buys", 0)).values


async def test_what_a_stopping_worker_was_committing_has_an_unknown_outcome() -> None:
    async with stopped(HeldLog(holds_commits=True)) as (_, (committing, waiting)):
        with pytest.raises(CommitUnknown, match="while this was being sent"):
            await committing
        with pytest.raises(WorkerStopping, match="stopped before this was sent"):
            await waiting


async def test_a_request_that_meets_a_stopping_worker_may_be_sent_again() -> None:
    till, log = Till(), SimulatedLog()
    async with worker(till, log) as (_, http):
        writer = next(task for task in asyncio.all_tasks() if task.get_name() == "outgate")
        writer.cancel()
        await asyncio.wait({writer})
        answer = await http.post("/buys", json=ONE)
    assert (answer.status_code, answer.json()["error"]) == (503, "WorkerStopping")
    assert answer.headers["Retry-After"] == "1"
    assert await till.bought(log) == []
