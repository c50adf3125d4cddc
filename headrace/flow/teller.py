"""Tells what made a row, and what happened to a key, beside a running worker: bounded, and one at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from headrace.clock import Clock
from headrace.errors import Unavailable
from headrace.flow.fact import Naming
from headrace.flow.group import Group
from headrace.flow.keyhistory import KeyHistory, homes, key_history, naming_of, telling_topics
from headrace.flow.origin import Origin, OriginSearch
from headrace.flow.standing import standing_of
from headrace.flow.topic import Topic
from headrace.log.port import Log, TopicInfo
from headrace.tables.globalview import GlobalView
from headrace.tables.table import Table
from headrace.tables.view import PartitionView

T = TypeVar("T")

TIME_MAX_S = 2.0
"""How long events are read and folded; then is told what there is."""
_LOG_TIME_MAX_S = 5.0
"""How much longer the log may keep one waiting."""
FACTS_MAX = 25


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """An answer, and the names of what its stamps name."""

    answer: T
    naming: Naming


class Teller:
    """What the page of a worker asks; the worker goes on with its own work every 2 ms."""

    def __init__(
        self,
        log: Log,
        *,
        groups: Mapping[str, Group],
        tables: Mapping[str, Table[Any, Any]],
        topics: Sequence[Topic[Any, Any]],
        infos: Mapping[str, TopicInfo],
        followed: Sequence[GlobalView],
        clock: Clock,
        time_max_s: float = TIME_MAX_S,
    ) -> None:
        self._log = log
        self._groups = groups
        self._tables = tables
        self._topics = topics
        self._infos = infos
        self._followed = followed
        self._clock = clock
        self._time_max_s = time_max_s
        self._turn = asyncio.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether somebody is being told something; who asks all the same, waits."""
        return self._turn.locked()

    async def origin(self, table: str, key_text: str, view: PartitionView) -> Told[Origin]:
        """What made the row of a key that this worker has.

        Raises: DecodeError for what is no key of the table; Unavailable when the log does not answer;
        what reads of the partition raise; AgentReturned, UnencodableValue.
        """
        declared = self._tables[table]
        group = self._groups[declared.group]
        key = declared.keys.from_text(key_text)
        async with self._alone() as is_over:
            naming = await naming_of(self._log)
            search = OriginSearch(
                self._log,
                group,
                declared,
                key,
                naming=naming,
                telling=telling_topics((), self._topics),
                followed=[each for each in self._followed if each.group != group.name],
                limit=FACTS_MAX,
                is_over=is_over,
            )
            standing = await standing_of(self._log, group, view, search.row_key)
            return Told(await search.run(standing), naming)

    async def history(self, key_text: str) -> Told[KeyHistory]:
        """The events of a key and their corrections. Raises: Unavailable, as above."""
        inputs = [topic for group in self._groups.values() for topic in group.inputs.values()]
        topics = telling_topics(inputs, self._topics)
        async with self._alone() as is_over:
            naming = await naming_of(self._log)
            found = homes(key_text, topics, self._infos)
            told = await key_history(self._log, found, naming.catalog, limit=FACTS_MAX, is_over=is_over)
            return Told(told, naming)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Callable[[], bool]]:
        """The only one to be told for the time of the block; gives what tells that the time is up."""
        async with self._turn:
            end = self._clock.monotonic() + self._time_max_s
            try:
                async with asyncio.timeout(self._time_max_s + _LOG_TIME_MAX_S):
                    yield lambda: self._clock.monotonic() > end
            except TimeoutError as error:
                raise Unavailable("the log did not give the events in time", hint="Try again.") from error
