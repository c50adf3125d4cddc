"""Reads rows all the time while workers die: what is answered must be true, or be no answer."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import httpx
import msgspec

from tests.chaos.books import Digests
from tests.chaos.load import Load
from tests.chaos.storm import Line
from tests.process.workers import Worker, breath

_PAUSE_S = 0.03
_TIMEOUT_S = 5.0


class Readers:
    """One client that asks any worker for any line, and always for what it has seen before at least."""

    def __init__(self, crew: Sequence[Worker], load: Load, dice: random.Random) -> None:
        self._crew = crew
        self._load = load
        self._dice = dice
        self._digests = Digests()
        self._tokens: dict[int, str] = {}
        self._counts: dict[int, int] = {}
        self.statuses: Counter[int] = Counter()
        """How often each status was answered."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Read until told to stop. Raises: AssertionError for an answer that is not true."""
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
            while not stopping.is_set():
                await self._read(client, self._dice.choice(self._crew), self._dice.choice(self._load.keys))
                await breath(_PAUSE_S)

    async def _read(self, client: httpx.AsyncClient, worker: Worker, key: int) -> None:
        token = self._tokens.get(key)
        try:
            answer = await client.get(
                f"http://{worker.address}/lines/{key}",
                headers={"Headrace-Position": token} if token else {},
            )
        except httpx.TransportError:
            # It is dead, standing still, or was killed while it answered.
            return
        self.statuses[answer.status_code] += 1
        seen = self._counts.get(key, 0)
        if answer.status_code == 200:
            line = msgspec.json.decode(answer.content, type=Line)
            assert line == self._digests.line(line.count), f"key {key} is torn: {line}"
            assert seen <= line.count <= self._load.given[key], (key, seen, line, self._load.given[key])
            self._counts[key] = line.count
            self._tokens[key] = answer.headers["Headrace-Position"]
        elif answer.status_code == 404:
            assert not seen, f"key {key} is gone, its line was at {seen}"
        else:
            assert answer.status_code == 503, (key, answer.status_code, answer.text)
            assert "retry-after" in answer.headers, answer.headers
