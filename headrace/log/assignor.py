"""Who owns which task: balanced, and where the rows already are."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from headrace.log.port import Member


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one member tells the leader of the group."""

    partitions: dict[str, int]
    """Task groups by changelog topic, with their number of partitions."""
    instance: str = ""
    """The worker's name; the others look its address up under it."""
    generation: int = -1
    """The generation in which it owned what it says it owns."""
    owned: dict[str, list[int]] = {}
    """Partitions it runs at the moment."""
    held: dict[str, dict[int, int]] = {}
    """Partitions whose store it has on disk, and when each was last written (ms since the epoch)."""


Shares = dict[str, dict[str, list[int]]]
"""Member to topic to its partitions."""


def claim(member: Member, generation: int, owned: Mapping[str, Iterable[int]]) -> Claim:
    """What a member claims, with what it owned in its last generation."""
    return Claim(
        partitions=dict(member.partitions),
        instance=member.instance,
        generation=generation,
        owned={topic: sorted(partitions) for topic, partitions in owned.items()},
        held={topic: dict(times) for topic, times in member.held().items()},
    )


def owners(claims: Mapping[str, Claim], shares: Shares) -> dict[str, dict[int, str]]:
    """Topic to partition to the name of the worker that owns it."""
    found: dict[str, dict[int, str]] = {}
    for member, share in shares.items():
        for topic, partitions in share.items():
            found.setdefault(topic, {}).update(dict.fromkeys(partitions, claims[member].instance))
    return found


def assign(claims: Mapping[str, Claim]) -> Shares:
    """Share out every partition; sizes differ by one at most, and as little as possible moves.

    An owner keeps its partition before anybody who holds its store gets it, and of several holders
    the one that wrote last, as long as nobody has more than its share. The result depends on
    nothing but the claims.
    """
    shares: Shares = {member: {} for member in sorted(claims)}
    loads: Counter[str] = Counter()
    for topic in sorted({topic for claimed in claims.values() for topic in claimed.partitions}):
        members = [member for member in shares if topic in claims[member].partitions]
        count = max(claims[member].partitions[topic] for member in members)
        owners = _assign_topic(topic, count, {member: claims[member] for member in members}, loads)
        for partition, member in sorted(owners.items()):
            shares[member].setdefault(topic, []).append(partition)
            loads[member] += 1
    return shares


def _assign_topic(
    topic: str, count: int, claims: Mapping[str, Claim], loads: Mapping[str, int]
) -> dict[int, str]:
    """Partition to member, for one topic."""
    owner_before = _owners(topic, count, claims)
    holders: dict[int, list[str]] = defaultdict(list)
    for member, claimed in claims.items():
        for partition in claimed.held.get(topic, ()):
            holders[partition].append(member)
    for partition, able in holders.items():
        able.sort(key=lambda member: (-claims[member].held[topic][partition], member))
    owned = Counter(owner_before.values())
    # The odd ones out go to members that already own more, then to those with less of other topics.
    ranked = sorted(claims, key=lambda member: (-owned[member], loads[member], member))
    share, extra = divmod(count, len(ranked))
    room = {member: share + (rank < extra) for rank, member in enumerate(ranked)}
    owners: dict[int, str] = {}

    def give(partitions: Iterable[int], candidates: Mapping[int, list[str]]) -> None:
        for partition in partitions:
            for member in candidates.get(partition, ()):
                if partition not in owners and room[member] > 0:
                    owners[partition] = member
                    room[member] -= 1

    # A partition that somebody else holds as well is the first to be given away.
    keeping = sorted(owner_before, key=lambda each: (_is_held_elsewhere(each, owner_before, holders), each))
    give(keeping, {partition: [member] for partition, member in owner_before.items()})
    give(range(count), holders)
    give(range(count), dict.fromkeys(range(count), ranked))
    return owners


def _owners(topic: str, count: int, claims: Mapping[str, Claim]) -> dict[int, str]:
    """Who owned each partition last; the newer generation is right where two members say so."""
    owners: dict[int, str] = {}
    for member, claimed in sorted(claims.items(), key=lambda item: (item[1].generation, item[0])):
        for partition in claimed.owned.get(topic, ()):
            if partition < count:
                owners[partition] = member
    return owners


def _is_held_elsewhere(partition: int, owners: Mapping[int, str], holders: Mapping[int, list[str]]) -> bool:
    return any(member != owners[partition] for member in holders.get(partition, ()))
