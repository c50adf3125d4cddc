"""What the log holds, read on from check to check: the fold of the changelog, and every output."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import aclosing

import msgspec

from headrace.events.position import TopicPartition
from headrace.flow.group import changelog_name
from headrace.log.port import Chunk, Log
from headrace.log.stretch import chunks
from headrace.tables.changelog import POSITION_KEY, PositionRecord
from tests.chaos.load import Load
from tests.chaos.storm import (
    PARTITIONS,
    Echoed,
    Line,
    Looked,
    Sight,
    app,
    echoes,
    lines,
    looks,
    numbers,
    sights,
)

CHANGELOG = changelog_name(app.declarations.app_id, "main")


class Books:
    """Folds changelog and outputs as a committed reader finds them, and compares them with a load."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._offsets: dict[TopicPartition, int] = defaultdict(int)
        self._units: dict[int, int] = defaultdict(int)
        self._positions: dict[int, int] = defaultdict(int)
        self._lines: dict[int, Line] = {}
        self._sights: dict[int, Sight] = {}
        self._echoed: dict[int, int] = defaultdict(int)
        self._looked: dict[int, int] = defaultdict(int)
        self.changelog_ends: dict[int, int] = {}
        """Partition to the offset after the last record of its changelog."""

    @property
    def units(self) -> int:
        """How many units were committed."""
        return sum(self._units.values())

    async def check(self, load: Load) -> None:
        """Changelog and outputs are those of each event handled once, in order, up to the load's end.

        Everything that was appended must have been handled. Raises: AssertionError.
        """
        for partition in range(PARTITIONS):
            await self._read(TopicPartition(CHANGELOG, partition), self._take_changes)
            await self._read(TopicPartition(echoes.name, partition), self._take_echoes)
            await self._read(TopicPartition(looks.name, partition), self._take_looks)
        assert self._lines == load.lines
        assert self._sights == load.sights
        assert self._echoed == {key: line.count for key, line in load.lines.items()}
        assert self._looked == {key: sight.marks for key, sight in load.sights.items()}

    async def _read(self, place: TopicPartition, take: Callable[[Chunk], None]) -> None:
        held = (await self._log.offsets([place]))[place]
        assert held.stable == held.end, f"{place} has an open transaction"
        async with aclosing(chunks(self._log, place, self._offsets[place], held.end)) as found:
            async for chunk in found:
                take(chunk)
                self._offsets[place] = chunk.offset_next

    def _take_changes(self, chunk: Chunk) -> None:
        """Rows in the order of their units, whose numbers have no gap and whose positions only rise."""
        if chunk.offsets:
            self.changelog_ends[chunk.partition] = chunk.offsets[-1] + 1
        for key, value in zip(chunk.keys, chunk.values, strict=True):
            assert key is not None
            if key == POSITION_KEY:
                record = msgspec.json.decode(value or b"", type=PositionRecord)
                self._units[chunk.partition] += 1
                assert record.unit == self._units[chunk.partition], (chunk.partition, record)
                behind = sum(each.offset_next for each in record.inputs.values())
                assert behind > self._positions[chunk.partition], (chunk.partition, record)
                self._positions[chunk.partition] = behind
            elif key.startswith(lines.row_prefix):
                number = lines.keys.from_store(key[len(lines.row_prefix) :])
                self._lines[number] = msgspec.json.decode(value or b"", type=Line)
            else:
                number = sights.keys.from_store(key[len(sights.row_prefix) :])
                self._sights[number] = msgspec.json.decode(value or b"", type=Sight)

    def _take_echoes(self, chunk: Chunk) -> None:
        """The numbers of a key, each once and in order."""
        for key, value in zip(chunk.keys, chunk.values, strict=True):
            line = numbers.keys.from_wire(key or b"")
            echo = msgspec.json.decode(value or b"", type=Echoed)
            assert echo.number == self._echoed[line] + 1, (line, echo, self._echoed[line])
            self._echoed[line] = echo.number

    def _take_looks(self, chunk: Chunk) -> None:
        """The marks of a key, each once; none was handled before what its stamp names."""
        for key, value in zip(chunk.keys, chunk.values, strict=True):
            look = msgspec.json.decode(value or b"", type=Looked)
            assert look.counted >= look.number, (key, look)
            self._looked[numbers.keys.from_wire(key or b"")] += 1


class Digests:
    """What a line must be after so many numbers; it is asked for in any order."""

    def __init__(self) -> None:
        self._known = [Line()]

    def line(self, number: int) -> Line:
        """The line of a key that was given the numbers from 1 to this one."""
        while len(self._known) <= number:
            self._known.append(self._known[-1].plus(len(self._known)))
        return self._known[number]
