"""The workers of one app, and how they share its partitions."""

import asyncio

from headrace.errors import Fenced, LogError
from headrace.log.assignor import Claim, assign, claim, owners
from headrace.log.port import Assignment, Member


class Group:
    """Members by name; every change of them is a new generation, shared out as on Kafka."""

    def __init__(self) -> None:
        self.generation = 0
        self.members: dict[str, SimulatedMembership] = {}

    def join(self, member: Member) -> "SimulatedMembership":
        """Add a member; an older one of the same instance is put out."""
        older = self.members.pop(member.instance, None)
        if older is not None:
            older.end(Fenced(f"another worker has joined as {member.instance!r}"))
        membership = SimulatedMembership(self, member)
        self.members[member.instance] = membership
        self.rebalance()
        return membership

    def expel(self, instance: str) -> None:
        """Put a member out, as a broker does with one it has not heard of for long."""
        membership = self.members.pop(instance)
        membership.end(Fenced(f"the group has put {instance!r} out"))
        self.rebalance()

    def rebalance(self) -> None:
        """Share out anew, by what every member claims."""
        self.generation += 1
        claims = {name: membership.claim() for name, membership in self.members.items()}
        shares = assign(claims)
        everybody = owners(claims, shares)
        for name, membership in self.members.items():
            owned = {topic: frozenset(shares[name].get(topic, ())) for topic in membership.member.partitions}
            membership.assign(Assignment(self.generation, owned, everybody))


class SimulatedMembership:
    """One worker's place in its group."""

    def __init__(self, group: Group, member: Member) -> None:
        self.member = member
        self._group = group
        self._assignment = Assignment(0, {})
        self._end: LogError | None = None
        self._has_changed = asyncio.Event()

    async def next(self, after: int) -> Assignment:
        """The first assignment above this generation. Raises: Fenced, and LogError once it is closed."""
        while self._end is None and self._assignment.generation <= after:
            self._has_changed.clear()
            await self._has_changed.wait()
        return await self.confirm()

    async def confirm(self) -> Assignment:
        """The assignment as the group has it now. Raises: as `next`."""
        if self._end is not None:
            raise self._end
        return self._assignment

    async def close(self) -> None:
        """Leave; the others take over."""
        if self._end is None:
            self.end(LogError("this membership is closed", hint="Join again."))
            del self._group.members[self.member.instance]
            self._group.rebalance()

    def claim(self) -> Claim:
        """What it says of itself in a rebalance."""
        return claim(self.member, self._assignment.generation, self._assignment.partitions)

    def assign(self, assignment: Assignment) -> None:
        """Take note of what the group has decided."""
        self._assignment = assignment
        self._has_changed.set()

    def end(self, reason: LogError) -> None:
        """Tell whoever asks that this membership is over, and why."""
        self._end = reason
        self._has_changed.set()
