"""Topics in the file: created, verified, described and deleted."""

import sqlite3
import uuid
from collections.abc import Mapping, Sequence

from headrace.errors import TopicMismatch
from headrace.events.position import TopicPartition
from headrace.log.embedded.connection import snapshot, transaction
from headrace.log.port import OffsetRange, TopicInfo, TopicSpec

RECORD_BYTES_MAX = 1024 * 1024
DELETE_RETENTION_MS = 24 * 3_600 * 1_000
"""How long a tombstone stays, so that whoever reads from the beginning hears of it."""
_FOR_EVER = -1


def provision(db: sqlite3.Connection, specs: Sequence[TopicSpec]) -> Mapping[str, TopicInfo]:
    """Create what is missing and verify the rest, all of it or nothing. Raises: TopicMismatch."""
    with transaction(db):
        return {spec.name: _provisioned(db, spec) for spec in specs}


def _provisioned(db: sqlite3.Connection, spec: TopicSpec) -> TopicInfo:
    if (spec.delete_retention_ms or 0) > DELETE_RETENTION_MS:
        raise TopicMismatch(
            f"tombstones are kept for {DELETE_RETENTION_MS} ms, and {spec.delete_retention_ms} are asked for",
            hint="The embedded log has one time for all topics.",
            topic=spec.name,
        )
    found = _find(db, spec.name)
    if found is None and spec.partitions is None:
        raise TopicMismatch(
            "the topic does not exist",
            hint="Start the service that owns it first, or declare partitions= to create it here.",
            topic=spec.name,
        )
    if found is None:
        return _insert(db, spec)
    if spec.partitions not in (None, found.partitions):
        raise TopicMismatch(
            f"the topic has {found.partitions} partitions, {spec.partitions} are declared",
            hint="Declare the number it has; keys would move between partitions otherwise.",
            topic=spec.name,
        )
    return found


def _insert(db: sqlite3.Connection, spec: TopicSpec) -> TopicInfo:
    info = TopicInfo(spec.name, str(uuid.uuid4()), spec.partitions or 0)
    cursor = db.execute(
        "INSERT INTO topics (name, topic_id, partitions, is_compacted, retention_ms, compaction_lag_ms,"
        " record_bytes_max) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *info,
            spec.is_compacted,
            _FOR_EVER if spec.retention_ms is None else spec.retention_ms,
            spec.compaction_lag_ms,
            RECORD_BYTES_MAX if spec.record_bytes_max is None else spec.record_bytes_max,
        ),
    )
    db.executemany(
        "INSERT INTO partitions (topic, partition) VALUES (?, ?)",
        [(cursor.lastrowid, partition) for partition in range(info.partitions)],
    )
    return info


def _find(db: sqlite3.Connection, name: str) -> TopicInfo | None:
    row = db.execute("SELECT name, topic_id, partitions FROM topics WHERE name = ?", (name,)).fetchone()
    return None if row is None else TopicInfo(*row)


def describe(db: sqlite3.Connection, names: Sequence[str]) -> Mapping[str, TopicInfo]:
    """The topics that exist among these."""
    with snapshot(db):
        found = [_find(db, name) for name in names]
    return {info.name: info for info in found if info is not None}


def record_limits(db: sqlite3.Connection, names: Sequence[str]) -> Mapping[str, int]:
    """The largest record that each of these takes."""
    known = dict(db.execute("SELECT name, record_bytes_max FROM topics"))
    return {name: known[name] for name in names if name in known}


def every_topic(db: sqlite3.Connection) -> Sequence[TopicInfo]:
    """All topics in name order."""
    return [
        TopicInfo(*row) for row in db.execute("SELECT name, topic_id, partitions FROM topics ORDER BY name")
    ]


def delete(db: sqlite3.Connection, names: Sequence[str]) -> None:
    """Remove topics with all their records; one that is not there is none to remove."""
    with transaction(db):
        for name in names:
            row = db.execute("SELECT topic FROM topics WHERE name = ?", (name,)).fetchone()
            if row is not None:
                db.execute(
                    "DELETE FROM batches WHERE place IN (SELECT place FROM partitions WHERE topic = ?)", row
                )
                db.execute("DELETE FROM partitions WHERE topic = ?", row)
                db.execute("DELETE FROM topics WHERE topic = ?", row)


def ranges(db: sqlite3.Connection, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, OffsetRange]:
    """What these partitions hold, as of one moment. Raises: TopicMismatch."""
    with snapshot(db):
        found = {place: _partition(db, place) for place in places}
    # A transaction of SQLite is in the file whole or not at all: there is never an open one in the way.
    return {place: OffsetRange(start, end, end) for place, (_, start, end) in found.items()}


def place_ids(db: sqlite3.Connection, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
    """The number under which each partition is stored. Raises: TopicMismatch."""
    with snapshot(db):
        return {place: _partition(db, place)[0] for place in places}


def _partition(db: sqlite3.Connection, place: TopicPartition) -> tuple[int, int, int]:
    row = db.execute(
        "SELECT place, start_offset, end_offset FROM partitions JOIN topics USING (topic)"
        " WHERE name = ? AND partition = ?",
        place,
    ).fetchone()
    if row is None:
        raise TopicMismatch(
            "there is no such partition",
            hint="Provision the topic first.",
            topic=place.topic,
            partition=place.partition,
        )
    return row[0], row[1], row[2]


def record_lag(
    db: sqlite3.Connection, app: str, positions: Mapping[TopicPartition, int], recorded_ms: int
) -> None:
    """Leave an app's positions in the table `lag`."""
    with transaction(db):
        db.executemany(
            "INSERT OR REPLACE INTO lag VALUES (?, ?, ?, ?, ?)",
            [(app, *place, offset_next, recorded_ms) for place, offset_next in positions.items()],
        )
