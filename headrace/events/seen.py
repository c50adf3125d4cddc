"""What somebody has seen: next offsets by the identity of topics, as stamps and tokens carry them.

A partition is named by its **print**: 6 bytes of a hash of the topic's name, 4 bytes of a hash of the
id that the log gave it, and the partition number. So a vector can speak of topics that this service
does not know, and a recreated topic is noticed: its name matches, its id does not.
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache

from headrace.errors import MalformedStamp

Print = bytes
"""Identity of one partition, 14 bytes; see the module."""

NAME_BYTES, ID_BYTES = 6, 4
TOPIC_BYTES = NAME_BYTES + ID_BYTES
PRINT_BYTES = TOPIC_BYTES + 4
COMPONENTS_MAX = 128
"""A vector that leaves the process has no more components; what does not fit is cut, and flagged."""
OFFSET_MAX = 2**63 - 1

STAMP_HEAD = b"\x10"
STAMP_HEAD_CUT = b"\x11"
"""First byte of a stamp: its version, and whether components were cut."""
_OFFSET = struct.Struct(">Q")
OFFSET_BYTES = _OFFSET.size
"""Offsets are written with the highest byte first, so that their bytes compare as they do."""
COMPONENT_BYTES = PRINT_BYTES + OFFSET_BYTES


@lru_cache(maxsize=4_096)
def topic_print(topic: str, topic_id: str) -> bytes:
    """What a topic is known by, 10 bytes."""
    return name_print(topic) + hashlib.blake2b(topic_id.encode(), digest_size=ID_BYTES).digest()


def name_print(topic: str) -> bytes:
    """The part of its print that stands for a topic's name, 6 bytes."""
    return hashlib.blake2b(topic.encode(), digest_size=NAME_BYTES).digest()


def partition_print(topic: bytes, partition: int) -> Print:
    """The print of one partition of the topic with this print."""
    return topic + partition.to_bytes(4, "big")


def partition_of(print_: Print) -> int:
    """The partition number in a print."""
    return int.from_bytes(print_[TOPIC_BYTES:], "big")


class Seen(Mapping[Print, int]):
    """For each partition the offset behind what was seen of it; immutable. One left out stands at 0."""

    __slots__ = ("_offsets", "is_cut")

    def __init__(self, offsets: Mapping[Print, int] | None = None, *, is_cut: bool = False) -> None:
        self._offsets = dict(offsets or {})
        self.is_cut = is_cut
        """Whether components are missing that did not fit: what it covers is more than it says."""

    def __getitem__(self, print_: Print) -> int:
        return self._offsets[print_]

    def __iter__(self) -> Iterator[Print]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def __hash__(self) -> int:
        return hash((frozenset(self._offsets.items()), self.is_cut))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seen) and (self._offsets, self.is_cut) == (other._offsets, other.is_cut)

    def __repr__(self) -> str:
        inside = ", ".join(
            f"{print_[:TOPIC_BYTES].hex()}/{partition_of(print_)}: {offset}"
            for print_, offset in sorted(self._offsets.items())
        )
        return f"Seen({inside}{', cut' if self.is_cut else ''})"

    def covers(self, other: "Seen") -> bool:
        """Whether everything that `other` names was seen here, too (component-wise >=)."""
        mine = self._offsets
        return all(mine.get(print_, 0) >= offset for print_, offset in other._offsets.items())

    def merge(self, other: "Seen") -> "Seen":
        """The least vector that covers both (component-wise max)."""
        if not other._offsets and not other.is_cut:
            return self
        merged = dict(self._offsets)
        for print_, offset in other._offsets.items():
            if offset > merged.get(print_, -1):
                merged[print_] = offset
        return Seen(merged, is_cut=self.is_cut or other.is_cut)

    def within(self, components_max: int) -> "Seen":
        """The same with at most so many components, the first ones; flagged when any were cut."""
        if len(self._offsets) <= components_max:
            return self
        return Seen(dict(list(self._offsets.items())[:components_max]), is_cut=True)

    def encode(self) -> bytes:
        """The vector as a stamp: a head byte and 22 bytes for each component; empty for nothing seen."""
        kept = self.within(COMPONENTS_MAX)
        if not kept._offsets and not kept.is_cut:
            return b""
        pack = _OFFSET.pack
        parts = [print_ + pack(offset) for print_, offset in kept._offsets.items()]
        return (STAMP_HEAD_CUT if kept.is_cut else STAMP_HEAD) + b"".join(parts)

    @classmethod
    def decode(cls, stamp: bytes) -> "Seen":
        """The vector behind a stamp. Raises: MalformedStamp."""
        if not stamp:
            return NOTHING_SEEN
        check_stamp(stamp)
        offsets: dict[Print, int] = {}
        for at in range(1, len(stamp), COMPONENT_BYTES):
            print_ = stamp[at : at + PRINT_BYTES]
            offset = int.from_bytes(stamp[at + PRINT_BYTES : at + COMPONENT_BYTES], "big")
            offsets[print_] = max(offset, offsets.get(print_, 0))
        return cls(offsets, is_cut=stamp[:1] == STAMP_HEAD_CUT)


NOTHING_SEEN = Seen()


def check_stamp(stamp: bytes) -> None:
    """Refuse bytes that are no stamp. Raises: MalformedStamp."""
    if stamp[:1] not in (STAMP_HEAD, STAMP_HEAD_CUT):
        raise MalformedStamp(f"stamp version {stamp[0]} is not known here")
    components, rest = divmod(len(stamp) - 1, COMPONENT_BYTES)
    if rest or components > COMPONENTS_MAX:
        raise MalformedStamp(f"a stamp has at most {COMPONENTS_MAX} whole components, not {len(stamp)} bytes")
    for at in range(1 + PRINT_BYTES, len(stamp), COMPONENT_BYTES):
        if stamp[at] > 0x7F:
            raise MalformedStamp("a stamp names an offset that no log reaches")
