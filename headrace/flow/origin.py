"""The origin of a row: the events that made it, what each had to wait for, and what corrects it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from headrace.errors import DecodeError
from headrace.events.position import TopicPartition
from headrace.flow.deadletter import Letter, dead_letters_name
from headrace.flow.fact import Fact, Naming, Raw, fact_of
from headrace.flow.group import Group
from headrace.flow.keyhistory import Report, begins_at
from headrace.flow.lanes import merged
from headrace.flow.retelling import Refused, Retelling, Touch
from headrace.flow.standing import Standing, thinned
from headrace.flow.topic import Topic
from headrace.log.port import Chunk, Log, OffsetRange
from headrace.log.stretch import chunks, last_before
from headrace.tables.globalview import GlobalView
from headrace.tables.table import Table
from headrace.turns import Turns

_CACHE_ROWS_MAX = 20_000
_REFUSALS_MAX = 100
_CORRECTS = b'"corrects"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What an event had to wait for: another input of the task, or of a global table, up to where its
    sender had seen it."""

    place: TopicPartition
    offset_next: int
    fact: Fact | None
    """The last event before that offset; None when it is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One event that wrote the row."""

    fact: Fact
    agent: str
    row: bytes | None
    """The row as it left it; None: deleted."""
    is_replayed: bool
    causes: Sequence[Cause]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An event of the same key that is not in the row, because an agent refused it."""

    fact: Fact
    agent: str
    """Empty: every agent of the topic."""
    error: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What made a row, as far as the log tells."""

    row: bytes | None
    """As committed; None: there is none."""
    position: Mapping[str, int]
    """What the row stands for: next offsets by input."""
    links: Sequence[Link]
    """The newest ones, in the order of hand-out."""
    left_out: int
    """How many older ones there are."""
    refusals: Sequence[Refusal]
    told: bytes | None
    """The row that these events make."""
    is_whole: bool
    """Whether all events up to the position were read; False when the time was up."""
    is_borne_out: bool
    """Whether the events make the committed row."""
    failed: int
    """Events that an agent refuses now and did not refuse when they were handled."""
    begins_at: Mapping[TopicPartition, int]
    """Inputs whose first events are deleted, and the offset at which they begin now."""


class OriginSearch:
    """Looks for the origin of one row of a group's table, in the log alone."""

    def __init__(
        self,
        log: Log,
        group: Group,
        table: Table[Any, Any],
        key: Any,
        *,
        naming: Naming,
        telling: Sequence[Topic[Any, Any]] = (),
        followed: Sequence[GlobalView] = (),
        limit: int,
        report: Report = lambda read, of: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._log = log
        self._group = group
        self._table = table
        self._key = key
        self._naming = naming
        self._telling = [topic for topic in telling if topic.name not in group.inputs]
        """Other topics that may carry corrections of the inputs' events."""
        self._followed = followed
        """The global tables that the agents may read, as they are now."""
        self._limit = limit
        self._report = report
        self._is_over = is_over
        self._is_whole = True
        self._turns = Turns()
        self.wire_key = table.keys.to_wire(key)
        self.partition = group.partitioner.place(self.wire_key, group.partitions)
        self.row_key = table.row_prefix + table.keys.to_store(key)

    async def run(self, standing: Standing) -> Origin:
        """The origin of the row that stands there.

        Units: the rows of the partition are in memory meanwhile. Raises: LogError; AgentReturned and
        UnencodableValue when the agents are not what they were.
        """
        letters = await self._letters(standing)
        refused: dict[tuple[str, int], Counter[str]] = {}
        for letter in letters:
            refused.setdefault((letter.topic, letter.offset), Counter())[letter.agent] += 1
        ranges = await self._ranges(standing)
        retelling = await self._retold(standing, ranges, refused)
        told = retelling.row(self.row_key)
        facts = [fact_of(touch.raw, self._group.inputs[touch.raw.place.topic]) for touch in retelling.touches]
        corrections = await self._with_corrections_elsewhere(retelling.corrections, facts)
        links = [
            await self._link(touch, fact.corrected(corrections), ranges)
            for touch, fact in zip(retelling.touches, facts, strict=True)
        ]
        return Origin(
            row=standing.row,
            position={topic: standing.end().get(topic, 0) for topic in self._group.inputs},
            links=links,
            left_out=retelling.touched - len(links),
            refusals=[self._refusal(letter) for letter in letters if letter.key == self.wire_key][
                -_REFUSALS_MAX:
            ],
            told=told,
            is_whole=self._is_whole,
            is_borne_out=self._is_whole and self._is_same(standing.row, told),
            failed=retelling.failed,
            begins_at=begins_at({p: r for p, r in ranges.items() if p.topic != self._group.replay}),
        )

    # --- what there is to read

    async def _ranges(self, standing: Standing) -> dict[TopicPartition, OffsetRange]:
        """What is to be folded again of each input."""
        names = [*self._group.inputs]
        if standing.is_beginning_known:
            names += await self._log.describe([self._group.replay])
        held = await self._log.offsets([TopicPartition(name, self.partition) for name in names])
        return {
            place: range_._replace(start=max(range_.start, standing.starts.get(place.topic, 0)))
            for place, range_ in held.items()
        }

    async def _letters(self, standing: Standing) -> list[Letter]:
        """What the agents refused since the tables were begun, before where the row stands."""
        name = dead_letters_name(self._group.app)
        info = (await self._log.describe([name])).get(name)
        if info is None or not standing.is_beginning_known:
            return []
        place = TopicPartition(name, self.partition % info.partitions)
        held = (await self._log.offsets([place]))[place]
        end, found = standing.end(), []
        async with aclosing(chunks(self._log, place, held.start, held.stable)) as fetched:
            async for chunk in fetched:
                for key, value, headers in zip(chunk.keys, chunk.values, chunk.headers, strict=True):
                    letter = Letter.parse(key, value, headers)
                    if (
                        letter is not None
                        and (letter.group, letter.partition) == (self._group.name, self.partition)
                        and letter.at_ms >= standing.begun_ms
                        and letter.offset < end.get(letter.topic, 0)
                    ):
                        found.append(letter)
                    if self._turns.is_due:
                        await self._turns.give()
        return found

    async def _retold(
        self, standing: Standing, ranges: Mapping[TopicPartition, OffsetRange], refused: Refused
    ) -> Retelling:
        retelling = Retelling(
            self._group,
            self.partition,
            (self._table, self._key),
            refused=refused,
            followed=self._followed,
            cache_rows_max=_CACHE_ROWS_MAX,
            touches_max=self._limit,
        )
        lanes = sum(held.stable > held.start for held in ranges.values())
        fences = thinned(standing.fences, lanes)
        end = standing.end()
        size = sum(
            max(0, min(held.stable, end.get(place.topic, 0)) - held.start) for place, held in ranges.items()
        )
        read = dict.fromkeys(ranges, 0)
        try:
            await retelling.start()
            if fences:
                async with aclosing(merged(self._log, ranges, self._naming.catalog, fences)) as runs:
                    async for run in runs:
                        await retelling.take(run)
                        place = TopicPartition(run.chunk.topic, run.chunk.partition)
                        read[place] = run.chunk.offsets[run.stop - 1] + 1 - ranges[place].start
                        self._report(sum(read.values()), size)
                        if self._is_over():
                            self._is_whole = False
                            break
        finally:
            await retelling.close()
        return retelling

    # --- what is told

    async def _with_corrections_elsewhere(
        self, known: Mapping[str, list[Fact]], facts: Sequence[Fact]
    ) -> Mapping[str, list[Fact]]:
        """What corrects the inputs' events, also where this group does not read it."""
        corrections = {event_id: list(by) for event_id, by in known.items()}
        keys = {fact.raw.key for fact in facts if fact.raw.key is not None}
        infos = await self._log.describe([topic.name for topic in self._telling])
        for topic in self._telling:
            if topic.name not in infos:
                continue
            partitions = infos[topic.name].partitions
            homes = {TopicPartition(topic.name, topic.partitioner.place(key, partitions)) for key in keys}
            for place, held in (await self._log.offsets(sorted(homes))).items():
                async with aclosing(chunks(self._log, place, held.start, held.stable)) as fetched:
                    async for chunk in fetched:
                        for fact in self._corrections_in(chunk, topic):
                            corrections.setdefault(fact.corrects, []).append(fact)
                            if self._turns.is_due:
                                await self._turns.give()
                        if self._is_over():
                            break
        return corrections

    def _corrections_in(self, chunk: Chunk, topic: Topic[Any, Any]) -> Iterable[Fact]:
        for index, value in enumerate(chunk.values):
            if value is not None and _CORRECTS in value:
                fact = fact_of(Raw.at(chunk, index), topic)
                if fact.corrects:
                    yield fact

    async def _link(self, touch: Touch, fact: Fact, ranges: Mapping[TopicPartition, OffsetRange]) -> Link:
        causes = []
        followed = {topic for each in self._followed for topic in each.inputs}
        for place, offset in sorted(self._naming.catalog.position(fact.seen).items()):
            is_waited_for = place in ranges or place.topic in followed
            if is_waited_for and place.topic != fact.place.topic:
                causes.append(await self._cause(place, offset))
        return Link(fact=fact, agent=touch.agent, row=touch.row, is_replayed=touch.is_replayed, causes=causes)

    async def _cause(self, place: TopicPartition, offset: int) -> Cause:
        held = (await self._log.offsets([place]))[place]
        chunk = await last_before(self._log, place, offset, held)
        fact = fact_of(Raw.at(chunk, 0), self._group.inputs.get(place.topic)) if chunk is not None else None
        return Cause(place=place, offset_next=offset, fact=fact)

    def _refusal(self, letter: Letter) -> Refusal:
        raw = Raw(
            place=TopicPartition(letter.topic, letter.partition),
            offset=letter.offset,
            timestamp_ms=letter.timestamp_ms,
            key=letter.key,
            value=letter.value,
            headers=letter.headers,
        )
        fact = fact_of(raw, self._group.inputs.get(letter.topic))
        return Refusal(fact=fact, agent=letter.agent, error=letter.error, reason=letter.reason)

    def _is_same(self, row: bytes | None, told: bytes | None) -> bool:
        """Whether two rows hold the same; what a dict's order was is no matter."""
        if row is None or told is None or row == told:
            return row == told
        try:
            return bool(self._table.values.decoded(row) == self._table.values.decoded(told))
        except DecodeError:
            return False
