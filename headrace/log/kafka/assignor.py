"""Who owns which task: balanced, and where the rows already are."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one member tells the leader of the group."""

    partitions: dict[str, int]
    """Task groups by changelog topic, with their number of partitions."""
    generation: int = -1
    """The generation in which it owned what it says it owns."""
    owned: dict[str, list[int]] = {}
    """Partitions it runs at the moment."""
    held: dict[str, list[int]] = {}
    """Partitions whose store it has on disk."""


Shares = dict[str, dict[str, list[int]]]
"""Member to topic to its partitions."""


def assign(claims: Mapping[str, Claim]) -> Shares:
    """Share out every partition; sizes differ by one at most, and as little as possible moves.

    An owner keeps its partition before anybody who holds its store gets it, as long as neither has
    more than its share. The result depends on nothing but the claims.
    """
    shares: Shares = {member: {} for member in sorted(claims)}
    loads: Counter[str] = Counter()
    for topic in sorted({topic for claim in claims.values() for topic in claim.partitions}):
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
    for member, claim in claims.items():
        for partition in claim.held.get(topic, ()):
            holders[partition].append(member)
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
    for member, claim in sorted(claims.items(), key=lambda item: (item[1].generation, item[0])):
        for partition in claim.owned.get(topic, ()):
            if partition < count:
                owners[partition] = member
    return owners


def _is_held_elsewhere(partition: int, owners: Mapping[int, str], holders: Mapping[int, list[str]]) -> bool:
    return any(member != owners[partition] for member in holders.get(partition, ()))
