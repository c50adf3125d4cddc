"""Events that a service leaves in its own database, in its own transaction; a relay publishes them."""

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from headrace.bridge.outboxtable import BULK_MIN, COLUMNS, LOCK_TOPIC, TABLE, encode_headers
from headrace.errors import DeclarationError, OutsideTransaction
from headrace.events.envelope import (
    Envelope,
    EnvelopeFormat,
    encode_cloudevent,
    encode_envelope,
    fresh_event_id,
    id_text,
)
from headrace.events.event import Event
from headrace.events.token import Token
from headrace.flow.sending import active_sender
from headrace.flow.topic import Topic

if TYPE_CHECKING:
    from headrace.bridge.session import Session

K = TypeVar("K")
V = TypeVar("V")

_INSERT = f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) VALUES ({{}})"
_PYFORMAT, _QMARK = _INSERT.format(", ".join(["%s"] * 5)), _INSERT.format(", ".join("?" * 5))
_NAMED = _INSERT.format(", ".join(f":{name}" for name in COLUMNS))

_Row = tuple[str, bytes | None, bytes | None, bytes | None, int]


class LeftEvent(NamedTuple):
    """An event that was left in an outbox: it is published if and only if its transaction commits."""

    event_id: str


class Outbox(Generic[K, V]):
    """Where a service leaves the events of one topic, instead of sending them.

    A row is written over the connection that the service writes its own tables with, in the same
    transaction. Connections: of psycopg, sqlite3 or SQLAlchemy. For one key events are published in the
    order in which their transactions commit; each exactly once.
    """

    def __init__(self, topic: Topic[K, V], *, source: str = "outbox") -> None:
        self.topic = topic
        self._source = source

    def send(
        self,
        connection: Any,
        *,
        value: V | None,
        key: K | None = None,
        headers: Mapping[str, bytes] | None = None,
        seen: Token | None = None,
    ) -> LeftEvent:
        """Leave an event, in the transaction that the connection is in.

        Connection: `psycopg.Connection`, `sqlite3.Connection`, SQLAlchemy `Connection` or `Session`. `seen`:
        what the event follows; in a route, what its request brought along unless given. Raises:
        OutsideTransaction, UnencodableValue, DeclarationError; what the driver raises.
        """
        event, row = self._row(value, key, headers, seen)
        _insert(connection, [row])
        return event

    def send_many(
        self,
        connection: Any,
        events: Iterable[tuple[K | None, V | None]],
        *,
        headers: Mapping[str, bytes] | None = None,
        seen: Token | None = None,
    ) -> Sequence[LeftEvent]:
        """Leave events by key, all with the same headers. 500 and more lock their topic, not their keys.

        Raises: as `send`.
        """
        made = [self._row(value, key, headers, seen) for key, value in events]
        _insert(connection, [row for _, row in made], topic=self.topic.name)
        return [event for event, _ in made]

    async def asend(
        self,
        connection: Any,
        *,
        value: V | None,
        key: K | None = None,
        headers: Mapping[str, bytes] | None = None,
        seen: Token | None = None,
    ) -> LeftEvent:
        """The same over `psycopg.AsyncConnection`, SQLAlchemy's `AsyncConnection` or `AsyncSession`."""
        event, row = self._row(value, key, headers, seen)
        await _insert_async(connection, [row])
        return event

    async def asend_many(
        self,
        connection: Any,
        events: Iterable[tuple[K | None, V | None]],
        *,
        headers: Mapping[str, bytes] | None = None,
        seen: Token | None = None,
    ) -> Sequence[LeftEvent]:
        """As `send_many`, over the connections of `asend`."""
        made = [self._row(value, key, headers, seen) for key, value in events]
        await _insert_async(connection, [row for _, row in made], topic=self.topic.name)
        return [event for event, _ in made]

    def _row(
        self, value: V | None, key: K | None, headers: Mapping[str, bytes] | None, seen: Token | None
    ) -> tuple[LeftEvent, _Row]:
        topic = self.topic
        if key is None and topic.is_keyed:
            raise DeclarationError(
                f"an event for topic {topic.name} needs a key",
                hint="Give send() a key=, the topic declares one.",
            )
        raw = None
        if value is not None:
            topic.values.check(value)
            raw = topic.values.encode(value)
        event_id, now_ms = fresh_event_id(), int(time.time() * 1000)
        envelope = Envelope(event_id, now_ms, stamp=_stamp(seen))
        if topic.envelope is EnvelopeFormat.COMPACT:
            written: Sequence[tuple[str, bytes]] = encode_envelope(envelope)
        else:
            kind = type(value).__name__ if isinstance(value, Event) else topic.name
            written = encode_cloudevent(envelope, source=f"/{self._source}", type_name=kind)
        both = (*written, *(headers.items() if headers else ()))
        raw_key = None if key is None else topic.keys.to_wire(key)
        return LeftEvent(id_text(event_id)), (topic.name, raw_key, raw, encode_headers(both), now_ms)


def _stamp(seen: Token | None) -> bytes:
    if seen is not None:
        return seen.seen.encode()
    witness = getattr(active_sender.get(None), "witness", None)
    return witness.stamp if witness is not None else b""


# --- drivers


def _insert(connection: Any, rows: Sequence[_Row], topic: str = "") -> None:
    is_bulk = len(rows) >= BULK_MIN
    match _driver(connection):
        case "sqlite3":
            _check_sqlite(connection)
            connection.executemany(_QMARK, rows)
        case "psycopg":
            _check_psycopg(connection)
            if is_bulk:
                connection.execute(LOCK_TOPIC, (topic, topic))
            with connection.cursor() as cursor:
                cursor.executemany(_PYFORMAT, rows)
        case "sqlalchemy":
            from sqlalchemy import text

            _check_sqlalchemy(connection)
            if is_bulk and _dialect(connection) == "postgresql":
                connection.execute(text(_named_lock()), {"topic": topic})
            connection.execute(text(_NAMED), [dict(zip(COLUMNS, row, strict=True)) for row in rows])
        case _:
            raise _unknown(connection)


async def _insert_async(connection: Any, rows: Sequence[_Row], topic: str = "") -> None:
    is_bulk = len(rows) >= BULK_MIN
    match _driver(connection):
        case "psycopg":
            _check_psycopg(connection)
            if is_bulk:
                await connection.execute(LOCK_TOPIC, (topic, topic))
            async with connection.cursor() as cursor:
                await cursor.executemany(_PYFORMAT, rows)
        case "sqlalchemy":
            from sqlalchemy import text

            _check_sqlalchemy(connection)
            if is_bulk and _dialect(connection) == "postgresql":
                await connection.execute(text(_named_lock()), {"topic": topic})
            await connection.execute(text(_NAMED), [dict(zip(COLUMNS, row, strict=True)) for row in rows])
        case "headrace":
            session: Session = connection
            if is_bulk and session.engine_name == "postgresql":
                await session.fetch(LOCK_TOPIC, (topic, topic))
            await session.execute_many(_PYFORMAT, rows)
        case _:
            raise _unknown(connection)


def _driver(connection: Any) -> str:
    """The package that a connection, or a class that it inherits from, comes from."""
    known = ("sqlite3", "psycopg", "sqlalchemy", "headrace")
    for kind in type(connection).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in known:
            return package
    return ""


def _unknown(connection: Any) -> DeclarationError:
    return DeclarationError(
        f"an outbox does not know connections like {type(connection).__module__}.{type(connection).__name__}",
        hint="Give it one of psycopg, sqlite3 or SQLAlchemy; asend takes the asynchronous ones.",
    )


def _outside() -> OutsideTransaction:
    return OutsideTransaction("an event was to be left in an outbox outside of a transaction")


def _check_sqlite(connection: sqlite3.Connection) -> None:
    if not connection.in_transaction and connection.isolation_level is None:
        raise _outside()


def _check_psycopg(connection: Any) -> None:
    if connection.autocommit and connection.info.transaction_status.name == "IDLE":
        raise _outside()


def _check_sqlalchemy(connection: Any) -> None:
    options: Mapping[str, Any] = getattr(connection, "get_execution_options", dict)()
    if options.get("isolation_level") == "AUTOCOMMIT":
        raise _outside()


def _dialect(connection: Any) -> str:
    bind = connection.get_bind() if hasattr(connection, "get_bind") else connection
    return str(bind.dialect.name)


def _named_lock() -> str:
    return LOCK_TOPIC.replace("%s", ":topic")
