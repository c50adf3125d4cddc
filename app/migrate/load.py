"""How many statements reach the shared database, by who sends them: counted at the connections."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx

from app.client import NoAnswer

_TIMEOUT_S = 30.0
_METRIC = "headrace_database_statements_total"


class Source(NamedTuple):
    """A process with connections to the shared database."""

    name: str
    address: str
    is_worker: bool
    """Whether it is a worker of headrace, which tells it at /metrics."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What all sources had sent at one time."""

    at_s: float
    statements: Mapping[str, int]

    def rates_since(self, before: "Counted") -> Mapping[str, float]:
        """Statements per second of each source since then; one that was not there begins at 0."""
        seconds = max(1e-9, self.at_s - before.at_s)
        return {
            name: max(0, count - before.statements.get(name, 0)) / seconds
            for name, count in self.statements.items()
        }


class Meter:
    """Asks every source; sources come and go with the processes."""

    def __init__(self) -> None:
        self.sources: Sequence[Source] = ()
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def count(self) -> Counted:
        """What they have sent up to now. Raises: NoAnswer."""
        sources = self.sources
        counts = await asyncio.gather(*(self._statements(source) for source in sources))
        return Counted(
            time.monotonic(), {source.name: count for source, count in zip(sources, counts, strict=True)}
        )

    async def metrics(self, address: str) -> Mapping[str, float]:
        """Every sample of a worker, by its name with labels. Raises: NoAnswer."""
        return dict(_samples((await self._get(f"http://{address}/metrics")).text))

    async def _statements(self, source: Source) -> int:
        if source.is_worker:
            return int((await self.metrics(source.address)).get(_METRIC, 0))
        return int((await self._get(f"http://{source.address}/statements")).json()["statements"])

    async def _get(self, url: str) -> httpx.Response:
        try:
            answer = await self._http.get(url)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise NoAnswer(f"GET {url}: {error!r}") from error
        return answer


def _samples(text: str) -> Any:
    for line in text.splitlines():
        if line and line[0] != "#":
            name, _, value = line.rpartition(" ")
            yield name, float(value)
