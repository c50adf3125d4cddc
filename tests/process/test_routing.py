"""Three workers behind one address: any of them answers for every key, also while keys move."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import httpx
import msgspec
import pytest

from headrace.log.connect import connect
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from tests.process.apps.relay import Line
from tests.process.load import Load, without_worker
from tests.process.workers import Worker, breath, until_covered

TOKEN = "open sesame"
_SETTLE_TIMEOUT_S = 30.0
_PAGE_ROWS = 17


class Readers:
    """Reads keys at workers again and again, and holds every answer to what it must be."""

    def __init__(self, client: httpx.AsyncClient, lines: Mapping[int, Line]) -> None:
        self.answers: Counter[int] = Counter()
        self._client = client
        self._lines = lines

    @asynccontextmanager
    async def reading(self, crew: Sequence[Worker]) -> AsyncIterator[None]:
        """Read at these workers until the end of the block. Raises: what a read found to be wrong."""
        is_over = asyncio.Event()

        async def read(worker: Worker, first: int) -> None:
            keys = sorted(self._lines)
            for number in count(first):
                if is_over.is_set():
                    return
                await self.is_right(worker, keys[number % len(keys)])
                if number % 20 == 0:
                    await self.is_whole(worker)

        async with asyncio.TaskGroup() as tasks:
            for number, worker in enumerate(crew):
                tasks.create_task(read(worker, 5 * number), name=f"reader of {worker.instance}")
            try:
                yield
            finally:
                is_over.set()

    async def is_right(self, worker: Worker, key: int) -> bool:
        """Whether the worker has the line; it has the right one, or says that it cannot tell now."""
        answer = await worker.get(self._client, f"/lines/{key}")
        self.answers[answer.status_code] += 1
        if answer.status_code == 503:
            assert answer.headers["retry-after"], answer.text
            return False
        assert answer.status_code == 200, answer.text
        assert without_worker(msgspec.json.decode(answer.content, type=Line)) == self._lines[key]
        return True

    async def is_whole(self, worker: Worker) -> bool:
        """Whether the worker has all lines, page by page; it leaves none out."""
        found: list[int] = []
        cursor = ""
        while True:
            path = f"/lines?limit={_PAGE_ROWS}" + (f"&cursor={cursor}" if cursor else "")
            answer = await worker.get(self._client, path)
            self.answers[answer.status_code] += 1
            if answer.status_code == 503:
                assert answer.headers["retry-after"], answer.text
                return False
            page = msgspec.json.decode(answer.content)
            found += [row["key"] for row in page["rows"]]
            if page["cursor"] is None:
                assert found == sorted(self._lines)
                return True
            assert len(page["rows"]) == _PAGE_ROWS
            cursor = page["cursor"]

    async def until_all_right(self, crew: Sequence[Worker]) -> None:
        """Return once every worker has every line and all of them.

        Asks again and again: other processes have no way to wake this one.
        """
        async with asyncio.timeout(_SETTLE_TIMEOUT_S):
            while not await self._are_right(crew):
                await breath(0.1)

    async def _are_right(self, crew: Sequence[Worker]) -> bool:
        for worker in crew:
            for key in self._lines:
                if not await self.is_right(worker, key):
                    return False
            if not await self.is_whole(worker):
                return False
        return True


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_every_key_reads_the_same_at_every_worker_and_never_wrong_while_keys_move(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    environment = {
        "HEADRACE_LOG": f"kafka://{own_broker.address}",
        "HEADRACE_TOKENS": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "HEADRACE_PEER_SECRET": "what these three workers share",
        "HEADRACE_SESSION_TIMEOUT_S": "2",
        "HEADRACE_TRANSACTION_TIMEOUT_S": "3",
    }
    crew = [Worker("tests.process.apps.relay", f"w{number}", tmp_path, environment) for number in range(3)]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    log = connect(Settings(log=environment["HEADRACE_LOG"]))
    await log.open()
    try:
        async with httpx.AsyncClient(timeout=10.0, headers=headers) as client:
            staying, other, joining = crew
            await asyncio.gather(staying.start(), other.start())
            await asyncio.gather(staying.until_ready(), other.until_ready())
            writer = await log.writer("numbers")
            load = Load(writer)
            for _ in range(20):
                await load.append()
            await writer.close()
            await until_covered(client, [staying, other], load.ends)
            readers = Readers(client, load.lines)
            await readers.until_all_right([staying, other])
            async with readers.reading([staying, other]):
                await joining.start()
                await joining.until_ready()
                await readers.until_all_right([staying, other, joining])
            async with readers.reading([staying, joining]):
                await other.kill()
                await readers.until_all_right([staying, joining])
            assert readers.answers[200] > 500
            assert set(readers.answers) <= {200, 503}
            for worker in (staying, joining):
                assert await worker.terminate() == 0, worker.tail()
    finally:
        await log.close()
        for worker in crew:
            if worker.is_running:
                await worker.kill()
