"""Where an applier's position is: rows in the database that it writes, in the transaction of its effects.

`headrace_positions` is for everybody: whoever reads it in one snapshot with other tables knows which
events these contain. `headrace_appliers` is the applier's own: who holds a partition, and its last unit.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from headrace.bridge.session import Engine, Session
from headrace.errors import ApplierFenced, SchemaMismatch, StatementRefused
from headrace.flow.sink import SinkStanding
from headrace.log.port import Append
from headrace.tables.changelog import InputPosition, PositionRecord

_TABLES = (
    """CREATE TABLE IF NOT EXISTS headrace_positions (
        app text NOT NULL,
        group_name text NOT NULL,
        topic text NOT NULL,
        topic_id text NOT NULL,
        partition integer NOT NULL,
        offset_next bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
        PRIMARY KEY (app, group_name, topic, partition))""",
    """CREATE TABLE IF NOT EXISTS headrace_appliers (
        app text NOT NULL,
        group_name text NOT NULL,
        partition integer NOT NULL,
        epoch bigint NOT NULL,
        unit bigint NOT NULL,
        seen bytea NOT NULL,
        letters bytea NOT NULL,
        PRIMARY KEY (app, group_name, partition))""",
)
_FUNCTIONS = (
    """CREATE OR REPLACE FUNCTION headrace_contains(
        of_app text, of_topic text, of_partition integer, of_offset_next bigint) RETURNS boolean
    LANGUAGE sql STABLE AS $$
        SELECT coalesce(bool_and(offset_next >= of_offset_next), false) FROM headrace_positions
        WHERE app = of_app AND topic = of_topic AND partition = of_partition
    $$""",
    # It looks again every 10 ms: a function cannot listen. READ COMMITTED only: a snapshot never moves on.
    """CREATE OR REPLACE FUNCTION headrace_wait(
        of_app text, of_topic text, of_partition integer, of_offset_next bigint,
        timeout_s double precision DEFAULT 2) RETURNS boolean
    LANGUAGE plpgsql VOLATILE AS $$
    DECLARE
        until timestamptz := clock_timestamp() + make_interval(secs => timeout_s);
    BEGIN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'headrace_wait needs READ COMMITTED: this transaction reads a snapshot'
                USING ERRCODE = 'feature_not_supported';
        END IF;
        LOOP
            IF headrace_contains(of_app, of_topic, of_partition, of_offset_next) THEN
                RETURN true;
            END IF;
            IF clock_timestamp() >= until THEN
                RETURN false;
            END IF;
            PERFORM pg_sleep(0.01);
        END LOOP;
    END $$""",
)
_FIND = """SELECT to_regclass('headrace_appliers'),
    to_regprocedure('headrace_wait(text, text, integer, bigint, double precision)')"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('headrace schema', 0))"

_TAKE = """INSERT INTO headrace_appliers (app, group_name, partition, epoch, unit, seen, letters)
    VALUES (%s, %s, %s, 1, 0, %s, %s)
    ON CONFLICT (app, group_name, partition) DO UPDATE SET epoch = headrace_appliers.epoch + 1"""
_READ_OWN = """SELECT epoch, unit, seen, letters FROM headrace_appliers
    WHERE app = %s AND group_name = %s AND partition = %s"""
_READ = """SELECT topic, topic_id, offset_next FROM headrace_positions
    WHERE app = %s AND group_name = %s AND partition = %s"""
_NOTE_OWN = """UPDATE headrace_appliers SET unit = %s, seen = %s, letters = %s
    WHERE app = %s AND group_name = %s AND partition = %s AND epoch = %s"""
_NOTE = """INSERT INTO headrace_positions (app, group_name, topic, topic_id, partition, offset_next)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (app, group_name, topic, partition) DO UPDATE SET topic_id = excluded.topic_id,
    offset_next = excluded.offset_next, updated_at = CURRENT_TIMESTAMP"""

_Letter = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...], int]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[str, int, list[_Letter]]]).decode


class Holder(NamedTuple):
    """One partition of an applier, and in which epoch it is held."""

    app: str
    group: str
    partition: int
    epoch: int = 0


async def ensure_tables(engine: Engine, session: Session) -> None:
    """Create what headrace keeps in the database, where it is missing. Raises: SchemaMismatch."""
    try:
        if engine.name == "postgresql":
            found = await session.fetch(_FIND)
            if None not in found[0]:
                await session.rollback()
                return
            await session.execute(_LOCK)
        for statement in (*_TABLES, *(_FUNCTIONS if engine.name == "postgresql" else ())):
            await session.execute(statement)
        await session.commit()
    except StatementRefused as error:
        await session.rollback()
        raise SchemaMismatch(f"the tables of headrace cannot be made in {engine.shown}: {error}") from error


async def take(session: Session, holder: Holder) -> tuple[Holder, SinkStanding | None]:
    """Hold a partition from here on, whoever held it before; and the last unit that was applied.

    A transaction of an older holder is over when this returns. Raises: DatabaseUnavailable.
    """
    place = (holder.app, holder.group, holder.partition)
    await session.execute(_TAKE, (*place, b"", _encode([])))
    ((epoch, unit, seen, letters),) = await session.fetch(_READ_OWN, place)
    rows = await session.fetch(_READ, place)
    await session.commit()
    held = holder._replace(epoch=epoch)
    if not unit:
        return held, None
    inputs = {topic: InputPosition(topic_id, offset_next) for topic, topic_id, offset_next in rows}
    return held, SinkStanding(unit, inputs, bytes(seen), _letters(bytes(letters)))


async def note(
    session: Session, holder: Holder, record: PositionRecord, moved: Iterable[str], letters: Sequence[Append]
) -> None:
    """Write where a unit stands into its own transaction. Raises: ApplierFenced, DatabaseUnavailable.

    Shape: `moved` are the inputs whose position is another than before.
    """
    place = (holder.app, holder.group, holder.partition)
    written = (record.unit, record.seen, _encode([(t, p, list(records)) for t, p, records in letters]))
    if not await session.execute(_NOTE_OWN, (*written, *place, holder.epoch)):
        raise ApplierFenced(
            f"partition {holder.partition} of group {holder.group} was taken over by another worker"
        )
    rows = [
        (holder.app, holder.group, topic, record.inputs[topic].topic_id, holder.partition, at.offset_next)
        for topic in moved
        for at in (record.inputs[topic],)
    ]
    if rows:
        await session.execute_many(_NOTE, rows)


async def read_positions(session: Session, app: str, group: str) -> Mapping[tuple[str, int], int]:
    """By topic and partition the next offset of an applier, as the session's snapshot has it."""
    rows = await session.fetch(
        "SELECT topic, partition, offset_next FROM headrace_positions WHERE app = %s AND group_name = %s",
        (app, group),
    )
    return {(topic, partition): offset_next for topic, partition, offset_next in rows}


def _letters(raw: bytes) -> Sequence[Append]:
    return [Append(topic, partition, records) for topic, partition, records in _decode(raw)]
