"""How far: a vector of next offsets, and the token that carries it to other services."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Self

import msgspec

from headrace.errors import ForeignToken, MalformedToken


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Position(Mapping[TopicPartition, int]):
    """For each partition the offset that comes next; immutable. A partition left out stands at 0."""

    __slots__ = ("_offsets",)

    def __init__(self, offsets: Mapping[TopicPartition, int] | None = None) -> None:
        self._offsets = dict(offsets or {})

    def __getitem__(self, place: TopicPartition) -> int:
        return self._offsets[place]

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def __hash__(self) -> int:
        return hash(frozenset(self._offsets.items()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{t}/{p}: {o}" for (t, p), o in sorted(self._offsets.items()))
        return f"Position({inside})"

    def covers(self, other: "Position") -> bool:
        """Whether everything before `other` is also before this position (component-wise >=)."""
        mine = self._offsets
        return all(mine.get(place, 0) >= offset for place, offset in other._offsets.items())

    def merge(self, other: "Position") -> "Position":
        """The least position that covers both (component-wise max)."""
        merged = dict(self._offsets)
        for place, offset in other._offsets.items():
            if offset > merged.get(place, -1):
                merged[place] = offset
        return Position(merged)

    def only(self, places: Iterable[TopicPartition]) -> "Position":
        """The components of these partitions."""
        return Position({place: self._offsets[place] for place in places if place in self._offsets})


class Catalog(NamedTuple):
    """Which cluster this is and which topics, by identity and not by name alone."""

    cluster_id: str
    topic_ids: Mapping[str, str]
    """Topic name to the id that the log gave it when it was created."""


_TOKEN_VERSION = 1
_PRINT_BYTES = 6
_Payload = tuple[bytes, list[tuple[str, bytes, list[int]]]]
_decoder = msgspec.msgpack.Decoder(_Payload)


class Token(NamedTuple):
    """A position with the identity of what it speaks of; its text goes to clients and comes back."""

    cluster: bytes
    """Fingerprint of the cluster id, 6 bytes."""
    topics: Mapping[str, bytes]
    """Topic name to the fingerprint of its id, 6 bytes."""
    position: Position

    @classmethod
    def of(cls, position: Position, catalog: Catalog) -> Self:
        """The token for a position in this catalog's cluster."""
        names = {place.topic for place in position}
        return cls(
            _fingerprint(catalog.cluster_id),
            {name: _fingerprint(catalog.topic_ids[name]) for name in names},
            position,
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The token behind its text form. Raises: MalformedToken."""
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            if not raw or raw[0] != _TOKEN_VERSION:
                raise MalformedToken("this position token has a version that is not known here")
            cluster, topics = _decoder.decode(raw[1:])
            offsets = {
                TopicPartition(name, partition): offset
                for name, _, flat in topics
                for partition, offset in zip(flat[::2], flat[1::2], strict=True)
            }
        except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
            raise MalformedToken("this is not a position token") from error
        if any(number < 0 for place, offset in offsets.items() for number in (place.partition, offset)):
            raise MalformedToken("a position has no negative numbers")
        return cls(cluster, {name: print_ for name, print_, _ in topics}, Position(offsets))

    def text(self) -> str:
        """The URL-safe text form, without padding."""
        flat: dict[str, list[int]] = {}
        for place, offset in sorted(self.position.items()):
            flat.setdefault(place.topic, []).extend((place.partition, offset))
        payload: _Payload = (self.cluster, [(name, self.topics[name], nums) for name, nums in flat.items()])
        raw = bytes((_TOKEN_VERSION,)) + msgspec.msgpack.encode(payload)
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def covers(self, other: "Token") -> bool:
        """Whether this token's position covers the other's. Raises: ForeignToken."""
        if self.cluster != other.cluster:
            raise ForeignToken("the two tokens speak of different clusters")
        for name, fingerprint in other.topics.items():
            if self.topics.get(name, fingerprint) != fingerprint:
                raise ForeignToken("the topic was recreated between the two tokens", topic=name)
        return self.position.covers(other.position)

    def located(self, catalog: Catalog) -> Position:
        """The position, once it is sure that it speaks of this cluster. Raises: ForeignToken."""
        if self.cluster != _fingerprint(catalog.cluster_id):
            raise ForeignToken("this token speaks of another cluster")
        for name, fingerprint in self.topics.items():
            known = catalog.topic_ids.get(name)
            if known is not None and _fingerprint(known) != fingerprint:
                raise ForeignToken("this token speaks of a topic that was recreated since", topic=name)
        return self.position


def _fingerprint(identity: str) -> bytes:
    return hashlib.blake2b(identity.encode(), digest_size=_PRINT_BYTES).digest()
