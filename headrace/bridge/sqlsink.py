"""A partition of an applier at work: what its agents write, and the transaction that holds it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.bridge.batch import Batch, Shape, Staging, Statement, send
from headrace.bridge.database import Database
from headrace.bridge.positions import Holder, ensure_tables, note, take
from headrace.bridge.session import Engine, Parameters, Session, SqlRow
from headrace.errors import OutsideAgent, StatementRefused
from headrace.flow.sink import OpenSink, SinkRefused, SinkStanding, active_sink
from headrace.log.port import Append
from headrace.settings import Settings
from headrace.tables.changelog import InputPosition, PositionRecord

_SAVEPOINT = "headrace_event"


class SqlSink:
    """What agents write into a database, as the app declares it (flow.sink.Sink)."""

    def __init__(self, database: Database, *, every_s: float = 0.0) -> None:
        self.every_s = every_s
        self.database = database

    async def open(self, app: str, group: str, partition: int, settings: Settings) -> "OpenSqlSink":
        """Take a partition over. Raises: DatabaseUnavailable, SchemaMismatch, SettingsError."""
        engine = self.database.engine(settings)
        session = await engine.connect(purpose=f"headrace {app} {group}/{partition}")
        try:
            await ensure_tables(engine, session)
            holder, standing = await take(session, Holder(app, group, partition))
        except BaseException:
            await session.close()
            raise
        return OpenSqlSink(engine, session, holder, standing)


class OpenSqlSink:
    """One partition, held: one connection, one transaction at a time (flow.sink.OpenSink)."""

    def __init__(
        self, engine: Engine, session: Session, holder: Holder, standing: SinkStanding | None
    ) -> None:
        self.standing = standing
        self.is_open = False
        self._staging = Staging() if engine.name == "postgresql" else None
        self._session = session
        self._holder = holder
        self._batch = Batch()
        self._noted: Mapping[str, InputPosition] = dict(standing.inputs) if standing is not None else {}
        self._saved_index: int | None = None
        """The event whose effects so far can be undone by a savepoint."""
        self._is_spoilt = False
        """Whether the savepoint is to be gone back to before anything else is sent."""
        self._index_in_hand: Callable[[], int] | None = None

    # --- what agents do

    def write(self, what: Shape | Statement, row: Parameters) -> None:
        """Note a write. Raises: OutsideAgent between events."""
        if not self.is_open:
            raise OutsideAgent(
                "an agent wrote to the database while no event was in its hand",
                hint="Write while handling an event, not from a task that outlives it.",
            )
        self._batch.write(what, row)

    async def fetch(self, sql: str, parameters: Parameters) -> list[SqlRow]:
        """Rows as they are with everything that was written so far. Raises: StatementRefused."""
        if not self.is_open:
            raise OutsideAgent("an agent read from the database while no event was in its hand")
        await self._settle_savepoint()
        if self._index_in_hand is not None:
            await self._save(self._index_in_hand())
        await self._send_all()
        return await self._session.fetch(sql, parameters)

    # --- what the task does

    def guard(self, index_in_hand: Callable[[], int] | None) -> None:
        """Keep what each event writes apart; None: there is no need to."""
        self._index_in_hand = index_in_hand
        self._batch.guard(index_in_hand)

    def roll_back(self) -> None:
        """Take back what the event in hand wrote."""
        self._batch.forget(self._batch.of_event_in_hand())
        assert self._index_in_hand is not None
        self._is_spoilt = self._saved_index == self._index_in_hand()

    async def flush(self) -> None:
        """Send what was written. Raises: StatementRefused, after which the event can be rolled back."""
        await self._settle_savepoint()
        if self._index_in_hand is not None and self._saved_index is None:
            await self._session.execute(f"SAVEPOINT {_SAVEPOINT}")
            self._saved_index = -1
        try:
            await self._send_all()
        except StatementRefused:
            if self._index_in_hand is not None:
                await self._undo()
            raise
        if self._saved_index == -1:
            await self._release()

    async def drop(self) -> None:
        """Forget the unit in hand."""
        self._batch.forget()
        self._saved_index, self._is_spoilt = None, False
        self._undone()
        await self._session.rollback()

    async def commit(self, record: PositionRecord, letters: Sequence[Append]) -> None:
        """Commit what was written, and where it stands. Raises: SinkRefused, DatabaseUnavailable."""
        moved = [name for name, at in record.inputs.items() if self._noted.get(name) != at]
        try:
            await self._settle_savepoint()
            await self._send_all()
            await note(self._session, self._holder, record, moved, letters)
            await self._session.commit()
        except StatementRefused as error:
            raise SinkRefused(error) from error
        if self._staging is not None:
            self._staging.committed()
        self._noted = dict(record.inputs)
        self._saved_index = None

    async def close(self) -> None:
        """Let go of the connection."""
        await self._session.close()

    # --- savepoints

    async def _send_all(self) -> None:
        writes = self._batch.take()
        if writes:
            await send(self._session, writes, self._staging)

    async def _save(self, index: int) -> None:
        """Make what this event does undoable. Raises: SinkRefused for what earlier events wrote."""
        if self._saved_index == index:
            return
        earlier = self._batch.take(len(self._batch) - self._batch.of_event_in_hand())
        try:
            await send(self._session, earlier, self._staging)
        except StatementRefused as error:
            raise SinkRefused(error) from error
        if self._saved_index is not None:
            await self._release()
        await self._session.execute(f"SAVEPOINT {_SAVEPOINT}")
        self._saved_index = index

    async def _settle_savepoint(self) -> None:
        if self._is_spoilt:
            await self._undo()

    async def _undo(self) -> None:
        await self._session.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
        self._undone()
        await self._release()
        self._is_spoilt = False

    def _undone(self) -> None:
        if self._staging is not None:
            self._staging.rolled_back()

    async def _release(self) -> None:
        await self._session.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        self._saved_index = None


def sink_in_hand(what: str) -> OpenSqlSink:
    """Where an agent writes. Raises: OutsideAgent outside of an agent of an applier."""
    sink: OpenSink | None = active_sink.get(None)
    if not isinstance(sink, OpenSqlSink):
        raise OutsideAgent(
            f"{what} was used outside of an applier",
            hint="Write it in an agent that is declared with @applier.agent(topic).",
        )
    return sink


def statement(sql: str, parameters: Sequence[Any]) -> tuple[Statement, Parameters]:
    """A statement of the user's own, as a batch takes it."""
    return Statement(sql), tuple(parameters)
