"""All that a comparison stands on: the database, the changelog, and a folder for what it has found."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.bridge.diff.comparing import Comparison
from headrace.bridge.diff.declared import Compared
from headrace.bridge.diff.replica import Replica
from headrace.bridge.diff.sqlside import SqlSide
from headrace.bridge.diff.state import Asked, State
from headrace.bridge.pin import Stretches, applier_inputs, applier_of
from headrace.bridge.session import Access, Engine, Session
from headrace.errors import DeclarationError
from headrace.flow.group import Group
from headrace.log.port import Log, TopicInfo
from headrace.settings import Settings
from headrace.tables.rocksdb import RocksEngine
from headrace.tables.store import Store

_REPLICA = "replica"
_CACHE_BYTES = 32 * 1024 * 1024
_FRESH_S = 1800.0
"""A replica that is older is made anew: compaction may have taken what it would have to read."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A comparison that can be run."""

    comparison: Comparison
    state: State
    engine: Engine
    rows_estimate: int
    """About how many rows the database has."""
    unshared: tuple[str, ...]
    """Inputs of the table that the applier does not read: no position of theirs is compared."""


def comparison_folder(settings: Settings, app: str, table: str) -> Path:
    """Where a comparison keeps what it has found."""
    return Path(settings.data) / f"{app}.diff" / table


@asynccontextmanager
async def open_comparison(
    compared: Compared[Any, Any],
    settings: Settings,
    log: Log,
    group: Group,
    topics: Mapping[str, TopicInfo],
    *,
    share: float = 1.0,
    is_resumed: bool = False,
    **options: Any,
) -> AsyncIterator[Opened]:
    """A comparison for the time of the block; `options` are those of `Comparison`.

    Raises: SchemaMismatch, DeclarationError, DatabaseUnavailable, LogError, ForkedChangelog.
    """
    engine = compared.database.engine(settings)
    applier = applier_of(compared.applier, group.app)
    changelog_id = topics[group.changelog].topic_id
    table = compared.table.name
    asked = Asked(table, compared.sql_table, engine.shown, "/".join(applier), changelog_id, share)
    state = _state(comparison_folder(settings, group.app, table), asked, is_resumed=is_resumed)
    async with AsyncExitStack() as stack:
        session = await engine.connect(Access.SNAPSHOT, purpose=f"headrace diff of {table}")
        stack.push_async_callback(session.close)
        shared = await _shared_inputs(session, applier, group, table)
        store = stack.enter_context(_replica_store(state))
        prefix, stretches = compared.table.row_prefix, Stretches(log)
        replica = Replica(log, group, changelog_id, prefix, store, inputs=shared, stretches=stretches)
        stack.push_async_callback(replica.close)
        sql = SqlSide(engine, compared)
        rows_estimate = await sql.count(session)
        await session.rollback()
        await replica.open()
        comparison = Comparison(
            compared,
            group,
            sql,
            session,
            replica,
            state,
            applier=applier,
            topic_ids={name: topics[name].topic_id for name in shared},
            share=share,
            **options,
        )
        unshared = tuple(name for name in group.inputs if name not in shared)
        yield Opened(comparison, state, engine, rows_estimate, unshared)


def _state(folder: Path, asked: Asked, *, is_resumed: bool) -> State:
    state = State.resume(folder, asked) if is_resumed else None
    return state or State.begin(folder, asked, time.time())


async def _shared_inputs(
    session: Session, applier: tuple[str, str], group: Group, table: str
) -> Sequence[str]:
    """The inputs of the table that the applier reads, too. Raises: DeclarationError, SchemaMismatch."""
    inputs = await applier_inputs(session, applier)
    await session.rollback()
    shared = [name for name in group.inputs if name in inputs]
    if not shared:
        raise DeclarationError(
            f"the applier {'/'.join(applier)} reads no input of table {table}",
            hint="Name the group that keeps the database up to date: applier=applier.group.",
        )
    return shared


@contextmanager
def _replica_store(state: State) -> Iterator[Store]:
    """The store of the replica, which stays until the comparison has ended."""
    engine = RocksEngine(state.folder, cache_bytes=_CACHE_BYTES, write_buffer_bytes=_CACHE_BYTES)
    if not state.is_resumed or time.time() - state.touched_s > _FRESH_S:
        engine.drop(_REPLICA, 0)
    try:
        yield engine.open(_REPLICA, 0)
    finally:
        engine.close()
        if state.is_done:
            engine.drop(_REPLICA, 0)
