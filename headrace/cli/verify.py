"""`verify`: whether each store on this machine is what its changelog says it must be."""

import hashlib
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import click

from headrace.cli.command import Command, ExitStatus
from headrace.cli.layout import Layout, find_layout
from headrace.cli.stores import FoundStore, LocalStores
from headrace.errors import ForkedChangelog, StoreCorrupt
from headrace.events.position import TopicPartition
from headrace.flow.followers import followed_name
from headrace.flow.group import Group
from headrace.log.port import Log
from headrace.log.stretch import records
from headrace.tables.changelog import POSITION_KEY, PositionRecord, follow_unit

_COLUMNS = ("group", "partition", "worker", "verdict", "rows", "different", "missing", "extra", "example")
_DELETED = b""
_FIRST_ROW = b"\1"


class Verdict(Enum):
    """What a comparison found."""

    EQUAL = "equal"
    DIFFERENT = "different"
    RECREATED = "changelog was recreated"
    BEYOND_LOG = "store is beyond its changelog"
    FORKED = "changelog is forked"
    UNREADABLE = "store cannot be read"


@dataclass(slots=True)
class Comparison:
    """One store beside the fold of its changelog."""

    verdict: Verdict = Verdict.EQUAL
    rows: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0
    compacted: int = 0
    """Rows that only a newer record speaks of: compaction removed the one the store has."""
    examples: list[str] = field(default_factory=list)

    def note(self, key: bytes) -> None:
        """Remember a key that differs, and with it the verdict."""
        self.verdict = Verdict.DIFFERENT
        if len(self.examples) < 3:
            table, _, rest = key.partition(b"\0")
            self.examples.append(f"{table.decode(errors='replace')}/{rest.hex()}")


class Fold:
    """The rows that a changelog partition makes, by fingerprint: up to a store's mark, and behind it."""

    def __init__(self, place: TopicPartition, offset_next: int) -> None:
        self._place = place
        self._offset_next = offset_next
        self._last: PositionRecord | None = None
        self.at_mark: dict[bytes, bytes] = {}
        self.later: dict[bytes, set[bytes]] = {}

    def add(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Take the next record. Raises: ForkedChangelog when unit numbers fall."""
        if key == POSITION_KEY:
            topic, partition = self._place
            self._last = follow_unit(
                self._last, value or b"", topic=topic, partition=partition, offset=offset
            )
        elif key and offset < self._offset_next:
            self.at_mark[key] = _fingerprint(value)
        elif key:
            self.later.setdefault(key, set()).add(_fingerprint(value))

    def compare(self, stored: Iterable[tuple[bytes, bytes]]) -> Comparison:
        """Compare with a store's rows; consumes `at_mark`.

        A row may be newer than the mark (a unit is applied in slices and its mark comes last), so
        it may also be what a later record says.
        """
        found = Comparison()
        for key, row in stored:
            found.rows += 1
            expected, actual = self.at_mark.pop(key, None), _fingerprint(row)
            later = self.later.get(key, ())
            if actual == expected or actual in later:
                continue
            if expected is None and later:
                found.compacted += 1
                continue
            if expected in (None, _DELETED):
                found.extra += 1
            else:
                found.different += 1
            found.note(key)
        for key, expected in self.at_mark.items():
            if expected != _DELETED and _DELETED not in self.later.get(key, ()):
                found.missing += 1
                found.note(key)
        return found


class Verify(Command):
    """Compare each store on this machine with the fold of its changelog: exit status 0 equal, 1 not.

    Each store is compared at the position it stands at, so a worker may be running. Exit status 3:
    there is no store here to compare.
    """

    example = "-A app.shop verify"

    async def answer(self) -> ExitStatus:
        """One row per store."""
        settings = self.settings()
        declared = self.declared_app.declarations
        stores = LocalStores(settings, declared.app_id)
        rows: list[dict[str, Any]] = []
        try:
            async with self.open_log(settings) as log:
                layout = await find_layout(log, declared)
                for group in layout.groups.values():
                    # What a worker follows of a global table is a store of its own.
                    for name in (group.name, followed_name(group.name)):
                        for partition in stores.partitions(name):
                            rows += await _verified(log, layout, group, name, partition, stores)
        finally:
            stores.close()
        self.show(_COLUMNS, rows)
        if not rows:
            click.echo(f"headrace: there is no store in {stores.folder} to compare", err=True)
            return ExitStatus.UNKNOWN
        is_equal = all(row["verdict"] == Verdict.EQUAL.value for row in rows)
        return ExitStatus.YES if is_equal else ExitStatus.NO


async def _verified(
    log: Log, layout: Layout, group: Group, name: str, partition: int, stores: LocalStores
) -> list[dict[str, Any]]:
    rows = []
    with stores.open(name, partition) as found:
        for store in found:
            comparison = await _compare(log, layout, group, store)
            rows.append(
                {
                    "group": name,
                    "partition": partition,
                    "worker": store.instance,
                    "verdict": comparison.verdict.value,
                    "rows": comparison.rows,
                    "different": comparison.different,
                    "missing": comparison.missing,
                    "extra": comparison.extra,
                    "compacted": comparison.compacted,
                    "example": comparison.examples,
                    "offset_next": store.offset_next,
                }
            )
    return rows


async def _compare(log: Log, layout: Layout, group: Group, found: FoundStore) -> Comparison:
    place = TopicPartition(group.changelog, found.partition)
    if found.mark and found.mark.changelog_id != layout.topics[group.changelog].topic_id:
        return Comparison(Verdict.RECREATED)
    # The store was opened before: what it holds is at or before this end.
    held = (await log.offsets([place]))[place]
    if found.offset_next > held.end:
        return Comparison(Verdict.BEYOND_LOG)
    fold = Fold(place, found.offset_next)
    try:
        async with aclosing(records(log, place, held.start, held.end)) as history:
            async for record in history:
                fold.add(*record)
        snapshot = found.store.snapshot()
        try:
            return fold.compare(snapshot.scan(_FIRST_ROW, None))
        finally:
            snapshot.close()
    except ForkedChangelog as error:
        return Comparison(Verdict.FORKED, examples=[str(error)])
    except StoreCorrupt as error:
        return Comparison(Verdict.UNREADABLE, examples=[str(error)])


def _fingerprint(row: bytes | None) -> bytes:
    return _DELETED if row is None else hashlib.blake2b(row, digest_size=16).digest()
