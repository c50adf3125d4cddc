"""All that a comparison stands on: the database, the changelog, and a folder for what it has found."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.bridge.diff.comparing import Comparison
from headrace.bridge.diff.declared import Compared
from headrace.bridge.diff.replica import Replica
from headrace.bridge.diff.sqlside import SqlSide
from headrace.bridge.diff.state import Asked, State
from headrace.bridge.pin import Stretches, applier_inputs, applier_of
from headrace.bridge.session import Access, Engine
from headrace.errors import DeclarationError
from headrace.flow.group import Group
from headrace.log.port import Log, TopicInfo
from headrace.settings import Settings
from headrace.tables.rocksdb import RocksEngine

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
    folder = comparison_folder(settings, group.app, compared.table.name)
    asked = Asked(
        compared.table.name, compared.sql_table, engine.shown, "/".join(applier), changelog_id, share
    )
    state = State.resume(folder, asked) if is_resumed else None
    now_s = time.time()
    state = state or State.begin(folder, asked, now_s)
    session = await engine.connect(Access.SNAPSHOT, purpose=f"headrace diff of {compared.table.name}")
    stores = RocksEngine(folder, cache_bytes=_CACHE_BYTES, write_buffer_bytes=_CACHE_BYTES)
    try:
        inputs = await applier_inputs(session, applier)
        await session.rollback()
        shared = [name for name in group.inputs if name in inputs]
        if not shared:
            raise DeclarationError(
                f"the applier {'/'.join(applier)} reads no input of table {compared.table.name}",
                hint="Name the group that keeps the database up to date: applier=applier.group.",
            )
        if not state.is_resumed or now_s - state.touched_s > _FRESH_S:
            stores.drop("replica", 0)
        store = stores.open("replica", 0)
        replica = Replica(
            log,
            group,
            changelog_id,
            compared.table.row_prefix,
            store,
            inputs=shared,
            stretches=Stretches(log),
        )
        sql = SqlSide(engine, compared)
        rows_estimate = await sql.count(session)
        await session.rollback()
        await replica.open()
        try:
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
        finally:
            await replica.close()
    finally:
        await session.close()
        stores.close()
        if state.is_done:
            stores.drop("replica", 0)
