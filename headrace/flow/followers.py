"""Following a global table: the changelog of its group, read by every worker, whole units at a time.

A unit is one run of records that a position record ends, so whoever reads close behind the writer never
sees half of one. Compaction tears the units of whoever is far behind: a follower that may meet such
units stops answering, and reads on to the end as a store that is restored does, where nothing is torn.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import NoReturn

from headrace.causes import first_cause
from headrace.errors import HeadraceError, LogError, StoreUnwritable
from headrace.events.position import TopicPartition
from headrace.flow.followed import FellBehind, FollowedPartition
from headrace.flow.group import Group
from headrace.flow.opening import close_store, drop_store, open_store, open_trusted
from headrace.flow.restore import Restore
from headrace.flow.worksite import Worksite
from headrace.log.port import OffsetRange
from headrace.tables.changelog import decode_mark
from headrace.tables.globalview import GlobalView
from headrace.tables.store import Store
from headrace.tables.view import PartitionView, ViewState

logger = logging.getLogger(__name__)

_RECORDS_MAX = 5_000
_BYTES_MAX = 4 * 1024 * 1024


def followed_name(group: str) -> str:
    """Under which name the stores of a follower lie: that of no group, so that tasks have their own."""
    return f"{group}.followed"


class Follower:
    """Keeps one global table of this worker up to date: the one error path, as for a task."""

    def __init__(self, site: Worksite, group: Group, followed: GlobalView) -> None:
        self._site = site
        self._group = group
        self._followed = followed
        self._name = followed_name(group.name)

    async def run(self) -> NoReturn:
        """Follow, for ever.

        While the log does not answer, readers have what was read before. Cancel: the stores keep how
        far they came. Raises: what trying again cannot cure.
        """
        try:
            while True:
                try:
                    await self._run_once()
                except FellBehind as gap:
                    logger.warning("The follower of %s reads on to the end: %s", self._group.name, gap)
                except HeadraceError as error:
                    if not error.is_recoverable:
                        raise
                    await self._note(error)
        finally:
            self._close(ViewState.CLOSED)

    async def _run_once(self) -> None:
        stores: list[Store] = []
        failure: HeadraceError | None = None
        try:
            async with asyncio.TaskGroup() as crew:
                opening = [
                    crew.create_task(
                        self._open(view, stores), name=f"restore of {self._name}/{view.partition}"
                    )
                    for view in self._followed.partitions
                ]
            async with asyncio.TaskGroup() as crew:
                crew.create_task(_watch(stores), name=f"damage watch of {self._name}")
                await self._follow([partition.result() for partition in opening])
        except BaseExceptionGroup as failures:
            cause = first_cause(failures)
            if isinstance(cause, OSError):
                failure = StoreUnwritable(f"the stores of {self._name} cannot be written: {cause}")
                raise failure from cause
            failure = cause if isinstance(cause, HeadraceError) else None
            raise cause from cause.__cause__
        finally:
            self._close(ViewState.RESTORING, failure)
            for store in stores:
                await close_store(store)

    async def _note(self, error: HeadraceError) -> None:
        kind, failures = type(error).__name__, self._site.figures.failures
        failures[kind] = failures.get(kind, 0) + 1
        logger.warning("The follower of %s failed and begins anew: %s", self._group.name, error)
        await self._site.clock.sleep(self._site.settings.reopen_backoff_max_s)

    def _close(self, state: ViewState, failure: HeadraceError | None = None) -> None:
        self._followed.shown.clear()
        for view in self._followed.partitions:
            view.close(state, failure=failure)
        self._followed.moved()

    # --- from the store to the end of the changelog

    async def _open(self, view: PartitionView, stores: list[Store]) -> FollowedPartition:
        """Catch one partition up, and let it answer. Raises: LogError, StoreCorrupt, OSError."""
        site, changelog = self._site, TopicPartition(self._group.changelog, view.partition)
        changelog_id = site.topics[changelog.topic].topic_id
        held = (await site.log.offsets([changelog]))[changelog]
        store = await self._open_store(view.partition, changelog_id, held)
        stores.append(store)
        restore = Restore(store, changelog, changelog_id, view, site.clock)
        await restore.run(site.log, held, to_unit_end=True)
        partition = FollowedPartition(
            self._group,
            self._followed,
            view.partition,
            store,
            changelog_id=changelog_id,
            last=restore.last,
            offset_next=restore.offset_next,
            clock=site.clock,
        )
        partition.begin()
        return partition

    async def _open_store(self, partition: int, changelog_id: str, held: OffsetRange) -> Store:
        engine, clock = self._site.engine, self._site.clock
        store = await open_trusted(
            engine, self._name, partition, changelog_id=changelog_id, held=held, clock=clock
        )
        mark = decode_mark(store.mark)
        if mark is None or (mark.changelog_id == changelog_id and mark.changelog_offset_next <= held.end):
            return store
        # Whether the tables may begin anew is for their owner to say, who refuses it if need be.
        logger.warning("The store of %s/%s is of another changelog and is rebuilt", self._name, partition)
        await close_store(store)
        await drop_store(engine, self._name, partition)
        return await open_store(engine, self._name, partition)

    # --- close behind the writers

    async def _follow(self, partitions: Sequence[FollowedPartition]) -> NoReturn:
        while True:
            try:
                await self._read(partitions)
            except LogError as error:
                if not error.is_recoverable:
                    raise
                await self._note(error)

    async def _read(self, partitions: Sequence[FollowedPartition]) -> NoReturn:
        for partition in partitions:
            partition.forget()
        changelog = self._group.changelog
        positions = {TopicPartition(changelog, n): each.offset_next for n, each in enumerate(partitions)}
        reader = await self._site.log.reader(positions)
        try:
            while True:
                for chunk in await reader.fetch(records_max=_RECORDS_MAX, bytes_max=_BYTES_MAX):
                    await partitions[chunk.partition].take(chunk)
        finally:
            await reader.close()


async def _watch(stores: Sequence[Store]) -> NoReturn:
    """Raises: StoreCorrupt as soon as a read or write of anybody, in any thread, finds damage."""
    loop, found = asyncio.get_running_loop(), asyncio.Event()
    for store in stores:
        store.damage.watch(lambda: loop.call_soon_threadsafe(found.set))
    await found.wait()
    for store in stores:
        store.damage.check()
    raise AssertionError("damage is noted before it is told of")
