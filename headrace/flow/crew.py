"""The keepers of one run: started and stopped as the group assigns their partitions."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from headrace.errors import Unavailable
from headrace.flow.group import Group
from headrace.flow.keeper import Keeper, Kept, tasks_of
from headrace.flow.post import Post
from headrace.flow.requests.reception import Reception
from headrace.flow.worksite import Worksite
from headrace.log.port import Assignment, Membership
from headrace.tables.view import PartitionView

logger = logging.getLogger(__name__)

TaskKey = tuple[str, int]
"""A task: group and partition."""


class Crew:
    """Every task of a worker, each with one keeper; `follow` lets it match what the group assigns.

    A task that stays is not touched by a rebalance. One that leaves finishes or drops its unit
    beside the others; one that is ours again before it has ended begins anew when it has.
    """

    def __init__(
        self,
        site: Worksite,
        groups: Mapping[str, Group],
        membership: Membership,
        tasks: asyncio.TaskGroup,
        reception: Reception | None = None,
        posts: Sequence[Post] = (),
    ) -> None:
        self.keepers: dict[TaskKey, Keeper] = {}
        self.generation = -1
        """Of the assignment that is followed; -1 until there is one."""
        self._site = site
        self._groups = groups
        self._reception = reception
        self._posts = {post.name: post for post in posts}
        self._kept: dict[str, Kept] = {**groups, **self._posts}
        """What is shared out: task groups, posts, and the partitions of recorded requests."""
        if reception is not None:
            self._kept[reception.group.name] = reception.group
        self._membership = membership
        self._tasks = tasks
        self._assignment: Assignment | None = None
        self._wanted: frozenset[TaskKey] = frozenset()
        self._running: dict[TaskKey, asyncio.Task[None]] = {}
        self._leaving: dict[TaskKey, asyncio.Task[None]] = {}
        self._given_up: dict[TaskKey, int] = {}
        """Generation in which a keeper found that its task is another worker's."""
        self._fenced: set[TaskKey] = set()
        """Tasks that others took over while they were leaving: ours again, they ask first whose they are."""
        self._was_assigned = asyncio.Event()

    async def follow(self) -> None:
        """Start and stop keepers with every assignment, for ever.

        Cancel: the keepers run on until `stop`. Raises: what ended the membership.
        """
        while True:
            try:
                assignment = await self._membership.next(self.generation)
            except Unavailable as error:
                # The tasks run on: whoever takes one over fences its writer.
                logger.warning("The group does not answer: %s", error)
                continue
            self._assignment, self._wanted = assignment, self._tasks_of(assignment)
            self.generation = assignment.generation
            self._site.figures.rebalances += 1
            named, count = _named(self._wanted), len(self._wanted)
            logger.info("Generation %s: this worker owns %s tasks%s", self.generation, count, named)
            self._reconcile()
            self._was_assigned.set()

    async def stop(self) -> None:
        """Stop every keeper side by side; one that does not finish in time loses its unit in hand."""
        self._wanted = frozenset()
        self._reconcile()
        if self._leaving:
            await asyncio.wait(list(self._leaving.values()))

    async def until_served(self) -> None:
        """Return once there is an assignment and every partition of it is served."""
        await self._was_assigned.wait()
        while restoring := [key for key, keeper in self.keepers.items() if not keeper.view.is_settled]:
            key = restoring[0]
            changed = asyncio.create_task(self.keepers[key].view.changed.wait(), name="view changed")
            try:
                await asyncio.wait({changed, self._running[key]}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()

    def view(self, group: str, partition: int) -> PartitionView | None:
        """The partition as this worker has it; None when it does not own it."""
        keeper = self.keepers.get((group, partition))
        return keeper.view if keeper else None

    def views(self) -> list[PartitionView]:
        """Every partition of a task group that this worker owns, by group and partition."""
        return [self.keepers[key].view for key in sorted(self.keepers) if key[0] in self._groups]

    def desks(self) -> list[PartitionView]:
        """Every partition of recorded requests that this worker owns."""
        others = self._groups.keys() | self._posts.keys()
        return [self.keepers[key].view for key in sorted(self.keepers) if key[0] not in others]

    def owner(self, group: str, partition: int) -> str | None:
        """The instance that owns a partition in the current generation, over all workers."""
        if self._assignment is None or group not in self._kept:
            return None
        return self._assignment.owners.get(self._kept[group].changelog, {}).get(partition)

    def _tasks_of(self, assignment: Assignment) -> frozenset[TaskKey]:
        group_of = {group.changelog: group.name for group in self._kept.values()}
        return frozenset(
            (group_of[changelog], partition)
            for changelog, partitions in assignment.partitions.items()
            for partition in partitions
        )

    def _reconcile(self) -> None:
        """Dismiss who is not wanted, start who is missing."""
        for key in sorted(self.keepers.keys() - self._wanted - self._leaving.keys()):
            dismissal = self._dismiss(key, self.keepers[key], self._running[key])
            self._leaving[key] = self._tasks.create_task(dismissal, name=f"dismissal of {key[0]}/{key[1]}")
        for key in sorted(self._wanted - self.keepers.keys() - self._leaving.keys()):
            # Who has given up in this very generation would only fence the rightful owner.
            if self._given_up.get(key, -1) < self.generation:
                self._start(key)

    def _start(self, key: TaskKey) -> None:
        group, partition = key
        if self._reception is not None and group == self._reception.group.name:
            begin = self._reception.desks_of(self._site, partition)
        elif group in self._posts:
            begin = self._posts[group].work_at(self._site, partition)
        else:
            begin = tasks_of(self._site, self._groups[group], partition)
        kept, must_ask = self._kept[group], key in self._fenced
        keeper = Keeper(self._site, kept, partition, self._membership, begin, must_ask=must_ask)
        self._fenced.discard(key)
        self.keepers[key] = keeper
        task = self._tasks.create_task(keeper.run(), name=f"keeper {group}/{partition}")
        self._running[key] = task
        task.add_done_callback(lambda ended: self._forget(key, ended))

    def _forget(self, key: TaskKey, ended: asyncio.Task[None]) -> None:
        keeper = self.keepers.pop(key)
        del self._running[key]
        if not ended.cancelled() and ended.exception() is None and keeper.given_up_in is not None:
            # The task may have become ours again while its keeper was still closing.
            self._given_up[key] = keeper.given_up_in
            self._reconcile()

    async def _dismiss(self, key: TaskKey, keeper: Keeper, running: asyncio.Task[None]) -> None:
        keeper.stop()
        _, late = await asyncio.wait({running}, timeout=self._site.settings.stop_timeout_s)
        if late:
            logger.warning("%s did not finish in time; its unit in hand is dropped", running.get_name())
            running.cancel()
            await asyncio.wait(late)
        if keeper.was_fenced:
            # Whoever fenced it may own it still: the assignment that gives it back can be an old one.
            self._fenced.add(key)
        del self._leaving[key]
        self._reconcile()


def _named(tasks: Iterable[TaskKey]) -> str:
    """The tasks for people, runs of partitions in short: `: main 0-3 7, daily 1`."""
    runs: dict[str, list[list[int]]] = {}
    for group, partition in sorted(tasks):
        of_group = runs.setdefault(group, [])
        if of_group and of_group[-1][-1] == partition - 1:
            of_group[-1][1:] = [partition]
        else:
            of_group.append([partition])
    shown = (f"{group} {' '.join('-'.join(map(str, run)) for run in found)}" for group, found in runs.items())
    return ": " + ", ".join(shown) if runs else ""
