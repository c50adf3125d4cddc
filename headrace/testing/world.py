"""All workers of a harness together: when they are quiet, how they crash, and what must always hold."""

import asyncio
from collections.abc import Sequence

from headrace.app import App
from headrace.errors import HeadraceError
from headrace.events.position import TopicPartition
from headrace.flow.deadletter import replay_name
from headrace.flow.followers import followed_name
from headrace.flow.group import changelog_name
from headrace.flow.requests.answer import NAME as REQUESTS
from headrace.tables.view import PartitionView, ViewState
from headrace.testing.items import CrashPoint
from headrace.testing.journal import Journal
from headrace.testing.rows import raw_rows
from headrace.testing.virtual_clock import VirtualClock
from headrace.testing.worker import Worker

PATIENCE_S = 20.0
"""How long, on the real clock, the workers may take to become quiet."""
_TURNS = 5_000
"""Turns of the loop without a look at the real clock: a simulated world needs no more."""
_LOOK_EVERY_S = 0.001


class NotQuiet(HeadraceError):
    """The workers go on and on."""

    hint = "Look at what the agents await: nothing in them may wait for what a test does later."


class PromiseBroken(AssertionError):
    """Tables, positions or outputs are not what the events make of them."""


class World:
    """Some apps with their workers on one log, under one clock."""

    def __init__(self, journal: Journal, clock: VirtualClock) -> None:
        self.journal = journal
        self.clock = clock
        self.workers: dict[App, list[Worker]] = {}

    def all_workers(self) -> list[Worker]:
        """Every worker, app by app."""
        return [worker for workers in self.workers.values() for worker in workers]

    # --- quiet

    async def quiet(self) -> None:
        """Return once nothing goes on before an event comes or time passes.

        Raises: what has ended a worker; NotQuiet.
        """
        if await self._is_quiet_within(_TURNS):
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                # Somebody waits for a disk or for the world outside, which no turn of the loop brings.
                while True:
                    if await self._is_quiet_within(1):
                        return
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            raise NotQuiet("the workers did not become quiet: " + await self._what_goes_on()) from None

    async def _is_quiet_within(self, turns: int) -> bool:
        busy: Worker | None = None
        for _ in range(turns):
            if busy is None or not await self._is_busy(busy):
                busy = await self._find_busy()
                if busy is None:
                    return True
            await asyncio.sleep(0)
        return False

    async def _find_busy(self) -> Worker | None:
        for worker in self.all_workers():
            if await self._is_busy(worker):
                return worker
        return None

    async def _is_busy(self, worker: Worker) -> bool:
        worker.check()
        if not worker.is_running or worker.is_standing:
            return False
        if await worker.owes(await self._assigned(worker)):
            return True
        behind = sum(not self.has_caught_up(worker.app, view) for view in worker.views())
        behind += worker.followers_behind()
        behind += sum(view.state is ViewState.RESTORING for view in worker.desks())
        # As many of its tasks wait for time to pass as are behind: nothing more happens by itself.
        return behind > worker.clock.waiting

    async def _assigned(self, worker: Worker) -> dict[str, frozenset[int]]:
        app_id = worker.app.declarations.app_id
        membership = self.journal.group(app_id).members.get(worker.instance)
        if membership is None:
            return {}
        assignment = await membership.confirm()
        names = {agent.group for agent in worker.app.declarations.agents}
        by_changelog = {changelog_name(app_id, name): name for name in names}
        owned = assignment.partitions.items()
        return {by_changelog[topic]: numbers for topic, numbers in owned if topic in by_changelog}

    def has_caught_up(self, app: App, view: PartitionView) -> bool:
        """Whether a task has handled all that there is for it, or has stopped for good."""
        if view.state is ViewState.STOPPED:
            return True
        replay = TopicPartition(replay_name(app.declarations.app_id, view.group), view.partition)
        reached = {**view.position, replay: view.replay_offset_next}
        return view.state is ViewState.SERVING and all(
            offset >= self.journal.partition(place).end for place, offset in reached.items()
        )

    async def _what_goes_on(self) -> str:
        found = []
        for worker in self.all_workers():
            if worker.is_running and await worker.owes(await self._assigned(worker)):
                found.append(f"{worker.instance} is taking its tasks over")
            if worker.followers_behind():
                found.append(f"{worker.instance} has not followed its global tables to the end")
            for view in worker.views():
                if not self.has_caught_up(worker.app, view):
                    found.append(
                        f"{worker.instance} {view.group}/{view.partition} is {view.state.value} "
                        f"at {view.position}"
                    )
        return "; ".join(found) or "for no reason that can be seen"

    async def until_struck_or_quiet(self, worker: Worker) -> bool:
        """Whether the worker died before all was quiet."""
        quiet = asyncio.create_task(self.quiet(), name="quiet")
        struck = asyncio.create_task(worker.struck.wait(), name="struck")
        try:
            await asyncio.wait({quiet, struck}, return_when=asyncio.FIRST_COMPLETED)
            if not worker.struck.is_set():
                quiet.result()
        finally:
            quiet.cancel()
            struck.cancel()
            await asyncio.wait({quiet, struck})
        return worker.struck.is_set()

    # --- lives

    async def start(self, worker: Worker) -> None:
        """Begin a worker's life, and wait until all is quiet."""
        worker.start()
        worker.app.current = worker.runtime
        await self.quiet()
        await self._settle(worker)

    async def _settle(self, worker: Worker) -> None:
        worker.fate.is_restoring = False
        if any(timed.is_once for timed in worker.app.declarations.timed):
            await worker.begin_tasks()
            await self.quiet()

    async def crash(self, worker: Worker, at: CrashPoint, after: int, *, keeps_store: bool) -> None:
        """Let a worker die at this point, and start it again."""
        if at is CrashPoint.RESTORE:
            worker.fate.die()
            await self._bury(worker, keeps_store=keeps_store)
            worker.start()
            worker.fate.arm(at, after)
            if not await self.until_struck_or_quiet(worker):
                worker.fate.is_restoring = False
        elif at is not CrashPoint.QUIET:
            worker.fate.arm(at, after)
            await self.until_struck_or_quiet(worker)
        else:
            await self.quiet()
        worker.fate.die()
        await self._bury(worker, keeps_store=keeps_store)
        await self.start(worker)

    async def _bury(self, worker: Worker, *, keeps_store: bool) -> None:
        await worker.bury()
        if not keeps_store:
            groups = sorted({agent.group for agent in worker.app.declarations.agents})
            worker.disk.lose([*groups, *map(followed_name, groups), REQUESTS])

    # --- what must always hold

    def check(self) -> None:
        """Hold every partition to its changelog, and the log to its promises. Raises: PromiseBroken."""
        broken = list(self.journal.broken)
        for app, workers in self.workers.items():
            seen: set[tuple[str, int]] = set()
            for worker, view in ((each, view) for each in workers for view in each.views()):
                where = f"{app.declarations.app_id} {view.group}/{view.partition}"
                if (view.group, view.partition) in seen:
                    broken.append(f"{where} has two owners")
                seen.add((view.group, view.partition))
                # Whoever stands still may not know yet what it has committed.
                if view.state is ViewState.SERVING and not worker.is_standing:
                    broken += self._broken_in(app, view, where)
            for worker in workers:
                broken += self._broken_followers(app, worker)
        if broken:
            raise PromiseBroken("; ".join(broken))

    def _broken_followers(self, app: App, worker: Worker) -> Sequence[str]:
        """What readers here have of global tables must be whole units, up to where it says to be."""
        found = []
        for followed in worker.runtime.global_views() if worker.is_running else ():
            changelog = changelog_name(app.declarations.app_id, followed.group)
            for number, offset_next in followed.shown.items():
                view = followed.partitions[number]
                rows, position = self.journal.folded(TopicPartition(changelog, number), offset_next)
                known = {place.topic: offset for place, offset in view.position.items()}
                if view.state is ViewState.SERVING and (
                    dict(raw_rows(view, b"\1", None)) != rows
                    or any(position[name].offset_next != offset for name, offset in known.items())
                ):
                    found.append(
                        f"{worker.instance} shows rows of {changelog}/{number} that are no whole units "
                        f"up to offset {offset_next}, or stand for another position"
                    )
        return found

    def _broken_in(self, app: App, view: PartitionView, where: str) -> Sequence[str]:
        changelog = changelog_name(app.declarations.app_id, view.group)
        history = self.journal.history(TopicPartition(changelog, view.partition))
        found = []
        rows = dict(raw_rows(view, b"\1", None))
        if rows != history.rows:
            differing = sorted(
                k for k in rows.keys() | history.rows.keys() if rows.get(k) != history.rows.get(k)
            )
            found.append(
                f"{where}: {len(differing)} rows are not those of the changelog, first {differing[0]!r}"
            )
        reached = {place.topic: offset for place, offset in view.position.items()}
        reached[replay_name(app.declarations.app_id, view.group)] = view.replay_offset_next
        for name, offset in history.ends.items():
            if reached.get(name, offset) < offset:
                found.append(f"{where}: the position of {name} is behind its last unit's, {offset}")
        return found
