"""The table in which services leave their events: how it is made, written, read, and emptied.

The order is the protocol. In PostgreSQL a row gets its id **after** its transaction has locked its key, and
the lock is kept until the transaction ends: for one key ids rise in the order of commits, and whoever sees
a row sees every older row of its key. SQLite has one writer at a time, so its ids are in that order anyway.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from headrace.bridge.session import Engine, Session, SqlRow
from headrace.errors import SchemaMismatch, StatementRefused
from headrace.events.envelope import Headers

TABLE = "headrace_outbox"
CHANNEL = "headrace_outbox"
"""Where PostgreSQL notifies of commits with events."""
BULK_MIN = 500
"""From so many events of one transaction on the whole topic is locked: there are not many locks."""

_POSTGRES = (
    "CREATE SEQUENCE IF NOT EXISTS headrace_outbox_id",
    """CREATE TABLE IF NOT EXISTS headrace_outbox (
        id bigint PRIMARY KEY,
        topic text NOT NULL,
        key bytea,
        value bytea,
        headers bytea,
        created_ms bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000)::bigint)""",
    # The id of the transaction comes before that of the row, so that a snapshot tells whether the
    # transactions of all ids up to one that is visible have ended.
    """CREATE OR REPLACE FUNCTION headrace_outbox_place() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('headrace.locked_topic', true) IS DISTINCT FROM NEW.topic THEN
            PERFORM pg_advisory_xact_lock_shared(hashtextextended(NEW.topic, 7));
            PERFORM pg_advisory_xact_lock(
                hashtextextended(NEW.topic || E'\\n' || encode(coalesce(NEW.key, ''), 'hex'), 8));
        END IF;
        PERFORM pg_current_xact_id();
        NEW.id := nextval('headrace_outbox_id');
        RETURN NEW;
    END $$""",
    """CREATE OR REPLACE FUNCTION headrace_outbox_told() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('headrace_outbox', '');
        RETURN NULL;
    END $$""",
    """CREATE OR REPLACE TRIGGER headrace_outbox_place BEFORE INSERT ON headrace_outbox
        FOR EACH ROW EXECUTE FUNCTION headrace_outbox_place()""",
    """CREATE OR REPLACE TRIGGER headrace_outbox_told AFTER INSERT ON headrace_outbox
        FOR EACH STATEMENT EXECUTE FUNCTION headrace_outbox_told()""",
)
_SQLITE = (
    """CREATE TABLE IF NOT EXISTS headrace_outbox (
        id integer PRIMARY KEY AUTOINCREMENT,
        topic text NOT NULL,
        key blob,
        value blob,
        headers blob,
        created_ms integer NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS integer)))""",
)
_FIND = "SELECT to_regclass('headrace_outbox'), to_regprocedure('headrace_outbox_told()')"
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('headrace schema', 0))"

_SLICE_ROWS = 256

COLUMNS = ("topic", "key", "value", "headers", "created_ms")
LOCK_TOPIC = (
    "SELECT set_config('headrace.locked_topic', %s, true), pg_advisory_xact_lock(hashtextextended(%s, 7))"
)

_SOURCES = {
    "postgresql": "unnest(%s::bigint[], %s::bigint[]) AS gap (low, high) "
    "JOIN headrace_outbox o ON o.id BETWEEN gap.low AND gap.high",
    "sqlite": "headrace_outbox o WHERE o.id BETWEEN %s AND %s",
}
_ROWS = """SELECT id, topic, key, CASE WHEN bytes <= %s THEN value END AS value,
        CASE WHEN bytes <= %s THEN headers END AS headers, created_ms, bytes FROM (
    SELECT *, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before FROM (
        SELECT o.*, coalesce(length(o.key), 0) + coalesce(length(o.value), 0)
            + coalesce(length(o.headers), 0) AS bytes
        FROM {source} ORDER BY o.id LIMIT %s) AS first) AS measured
    WHERE bytes_before < %s"""
# In front of the rows comes the snapshot that shows them.
_READ_POSTGRES = f"""SELECT NULL::bigint AS id, pg_current_snapshot()::text AS topic, NULL::bytea AS key,
        NULL::bytea, NULL::bytea, CASE WHEN %s THEN pg_current_xact_id()::text::bigint END, 0
    UNION ALL SELECT * FROM ({_ROWS.format(source=_SOURCES["postgresql"])}) AS found
    ORDER BY id NULLS FIRST"""
_READ_SQLITE = _ROWS.format(source=_SOURCES["sqlite"]) + " ORDER BY id"

Range = tuple[int, int]
"""Ids from the first up to and with the second."""
Ranges = Sequence[Range]
_WrittenHeaders = list[tuple[str, bytes]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_WrittenHeaders).decode


class Left(NamedTuple):
    """A row: an event that a service has left to be published."""

    id: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: bytes | None
    created_ms: int
    bytes: int = 0
    """How large key, value and headers are together."""


class Snapshot(NamedTuple):
    """Which transactions a statement takes for running: those named, and all from `xmax` on."""

    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """What `pg_current_snapshot` writes."""
        _, xmax, running = text.split(":")
        return cls(int(xmax), frozenset(map(int, running.split(","))) if running else frozenset())

    def runs_all(self, xids: Iterable[int]) -> bool:
        """Whether none of these has ended."""
        return all(xid >= self.xmax or xid in self.running for xid in xids)

    def running_of(self, xids: Iterable[int]) -> frozenset[int]:
        """Those of these that have not ended."""
        return frozenset(xid for xid in xids if xid >= self.xmax or xid in self.running)

    def running_before(self, bound: int) -> frozenset[int]:
        """All that have not ended, of those given out before `bound`.

        `xmax` follows the last that has ended: what is between that and `bound` runs.
        """
        return frozenset(xid for xid in self.running if xid < bound).union(range(self.xmax, bound))


class Found(NamedTuple):
    """What one statement has found."""

    rows: list[Left]
    is_all: bool
    """Whether there were no other rows where it looked."""
    snapshot: Snapshot | None
    """None where all writers come one after the other."""
    bound: int | None
    """An id that a transaction was given after all that have left rows before."""


async def ensure_outbox(engine: Engine, session: Session) -> None:
    """Create the table with what belongs to it, where it is missing. Raises: SchemaMismatch."""
    try:
        if engine.name == "postgresql":
            if None not in (await session.fetch(_FIND))[0]:
                await session.rollback()
                return
            await session.fetch(_LOCK)
        for statement in _POSTGRES if engine.name == "postgresql" else _SQLITE:
            await session.execute(statement)
        await session.commit()
    except StatementRefused as error:
        await session.rollback()
        raise SchemaMismatch(f"the outbox cannot be made in {engine.shown}: {error}") from error


async def read(
    engine: Engine,
    session: Session,
    ranges: Ranges,
    *,
    rows_max: int,
    bytes_max: int,
    needs_bound: bool = False,
) -> Found:
    """The first rows of these ranges of ids that are visible, in order; one more than `bytes_max` allows.

    A row that is larger than that comes without its value. Raises: DatabaseUnavailable, StatementRefused.
    """
    limits = (bytes_max, bytes_max), (rows_max, bytes_max)
    snapshot = bound = None
    if engine.name == "postgresql":
        bounds = ([low for low, _ in ranges], [high for _, high in ranges])
        found = await session.fetch(_READ_POSTGRES, (needs_bound, *limits[0], *bounds, *limits[1]))
        snapshot, bound = Snapshot.parse(found[0][1]), found[0][5]
        del found[0]
    else:
        # One writer at a time: whatever is not visible now was rolled back, or comes with a higher id.
        whole = (ranges[0][0], ranges[-1][1])
        found = await session.fetch(_READ_SQLITE, (*limits[0], *whole, *limits[1]))
    rows: list[Left] = []
    for at in range(0, len(found), _SLICE_ROWS):
        rows += map(_left, found[at : at + _SLICE_ROWS])
        await asyncio.sleep(0)
    is_all = len(rows) < rows_max and sum(row.bytes for row in rows) < bytes_max
    return Found(rows, is_all, snapshot, bound)


async def delete(engine: Engine, session: Session, ranges: Ranges) -> None:
    """Delete the rows with these ids, as far as they are there. Raises: DatabaseUnavailable."""
    if engine.name == "postgresql":
        lows, highs = [low for low, _ in ranges], [high for _, high in ranges]
        await session.execute(
            "DELETE FROM headrace_outbox o USING unnest(%s::bigint[], %s::bigint[]) AS gone (low, high) "
            "WHERE o.id BETWEEN gone.low AND gone.high",
            (lows, highs),
        )
    else:
        await session.execute_many("DELETE FROM headrace_outbox WHERE id BETWEEN %s AND %s", ranges)


def encode_headers(headers: Headers) -> bytes | None:
    """Headers as the table has them; None for none."""
    return _encode(list(headers)) if headers else None


def decode_headers(raw: bytes | None) -> Headers:
    """The headers of a row. Raises: msgspec.MsgspecError for what `encode_headers` did not write."""
    return tuple(_decode(raw)) if raw else ()


def ranges_of(ids: Sequence[int]) -> Ranges:
    """Rising ids as ranges."""
    ranges: list[tuple[int, int]] = []
    for id_ in ids:
        if ranges and ranges[-1][1] == id_ - 1:
            ranges[-1] = (ranges[-1][0], id_)
        else:
            ranges.append((id_, id_))
    return ranges


def _left(row: SqlRow) -> Left:
    # Some drivers give a view of what they received.
    if memoryview in map(type, row[2:5]):
        return Left._make(bytes(part) if isinstance(part, memoryview) else part for part in row)
    return Left._make(row)
