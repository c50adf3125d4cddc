"""The store of a task, opened: a damaged one is moved aside, one that was unused for too long is dropped."""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from headrace.clock import Clock
from headrace.errors import StoreCorrupt
from headrace.flow.group import CHANGELOG_DELETE_RETENTION_MS
from headrace.log.port import OffsetRange
from headrace.tables.changelog import StoreMark, decode_mark
from headrace.tables.store import Store, StoreEngine

logger = logging.getLogger(__name__)

UNUSED_MS_MAX = CHANGELOG_DELETE_RETENTION_MS // 2
"""A store that was unused for longer is rebuilt. Its changelog may have forgotten tombstones that the
store never saw, and catching up would leave the deleted rows in it; half, so that there is time to read."""

T = TypeVar("T")


async def open_trusted(
    engine: StoreEngine, group: str, partition: int, *, changelog_id: str, held: OffsetRange, clock: Clock
) -> Store:
    """The store of a task, fit to be caught up with a changelog that holds `held`; empty if need be.

    Cancel: the store is closed. Raises: StoreCorrupt when a new one cannot be trusted either,
    StoreInUse, OSError.
    """
    try:
        store, mark = await _open_readable(engine, group, partition)
    except StoreCorrupt as damage:
        aside = await _aside(engine, lambda: engine.quarantine(group, partition, clock.time()))
        logger.warning(
            "The store of %s/%s is damaged and is rebuilt from its changelog: %s Its files are in %s",
            group,
            partition,
            damage,
            aside or "memory no more",
        )
        store, mark = await _open_readable(engine, group, partition)
    if mark is None or mark.changelog_id != changelog_id or not _is_outdated(mark, held, clock):
        return store
    await close_store(store)
    logger.warning(
        "The store of %s/%s was unused since %.0f s and is rebuilt: rows deleted since could come back",
        group,
        partition,
        clock.time() - mark.at_ms / 1000,
    )
    await drop_store(engine, group, partition)
    return await open_store(engine, group, partition)


def _is_outdated(mark: StoreMark, held: OffsetRange, clock: Clock) -> bool:
    # A unit that deletes is two records at least, the tombstone and its position record. One offset alone
    # is the marker that ended the transaction of what the store has, or a position without rows.
    if held.end - mark.changelog_offset_next < 2:
        return False
    # A mark from the future tells of a clock that was set back: how old it is, nobody knows.
    return abs(clock.time() * 1000 - mark.at_ms) > UNUSED_MS_MAX


async def _open_readable(engine: StoreEngine, group: str, partition: int) -> tuple[Store, StoreMark | None]:
    store = await open_store(engine, group, partition)
    try:
        return store, decode_mark(store.mark)
    except StoreCorrupt as damage:
        store.damage.note(damage)
        await close_store(store)
        raise


async def open_store(engine: StoreEngine, group: str, partition: int) -> Store:
    """The store of a task, opened in a thread where a disk is waited for: replaying its log may take long.

    Cancel: waits for the thread, and closes what it opened.
    """
    if engine.is_in_memory:
        return engine.open(group, partition)
    loop = asyncio.get_running_loop()
    opening = loop.run_in_executor(None, engine.open, group, partition)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait({opening})
        if opening.exception() is None:
            await close_store(opening.result())
        raise


async def drop_store(engine: StoreEngine, group: str, partition: int) -> None:
    """Remove a store that is not open. Cancel: it is removed all the same. Raises: StoreInUse, OSError."""
    await _aside(engine, lambda: engine.drop(group, partition))


async def close_store(store: Store) -> None:
    """Close a store, in a thread where a disk is waited for: flushing takes tens of milliseconds.

    Cancel: waits for the thread all the same; the files must be free for the next holder.
    """
    await _aside(store, store.close)


async def _aside(where: Store | StoreEngine, work: Callable[[], T]) -> T:
    """Do it in a thread where a disk is waited for.

    Cancel: waits for the thread; what it does to files is never left to run beside the next holder.
    """
    if where.is_in_memory:
        return work()
    working = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise
