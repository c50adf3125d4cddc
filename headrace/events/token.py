"""The token: what was seen, as text that goes to clients and comes back with their next request."""

import base64
import binascii
import hashlib
import re
from functools import lru_cache
from typing import NamedTuple, Self

import msgspec

from headrace.errors import ForeignToken, MalformedToken
from headrace.events.position import Catalog, Position
from headrace.events.seen import (
    COMPONENTS_MAX,
    NAME_BYTES,
    NOTHING_SEEN,
    OFFSET_MAX,
    TOPIC_BYTES,
    Print,
    Seen,
    partition_of,
    partition_print,
)

TOKEN_BYTES_MAX = 4 * 1024
"""Longest text of a token; components that do not fit are cut, and the token says so."""
_VERSION = 2
_CLUSTER_BYTES = 4
_PARTITION_MAX = 2**31 - 1
_TOKENS_CACHED, _CACHED_BYTES_MAX = 2_048, 256
_CLUSTERS_CACHED = 16
_ALPHABET = re.compile(r"[A-Za-z0-9_-]+")
_Payload = tuple[bytes, bool, list[tuple[bytes, list[int]]]]
_decoder = msgspec.msgpack.Decoder(_Payload)


class Token(NamedTuple):
    """What was seen, and of which cluster."""

    cluster: bytes
    """Fingerprint of the cluster id, 4 bytes."""
    seen: Seen

    @classmethod
    def of(cls, position: Position, catalog: Catalog, seen: Seen = NOTHING_SEEN) -> Self:
        """The token for a position in this catalog's cluster, and for what else was seen there."""
        return cls(_fingerprint(catalog.cluster_id), catalog.seen(position).merge(seen))

    @classmethod
    def nothing(cls, catalog: Catalog) -> Self:
        """The token of somebody who has seen nothing of this cluster yet."""
        return cls(_fingerprint(catalog.cluster_id), NOTHING_SEEN)

    @classmethod
    def parse(cls, text: str) -> "Token":
        """The token behind its text form. Raises: MalformedToken."""
        # A client brings the same one with many requests. Only short ones are kept: a stranger must not
        # fill the memory with long ones.
        return _parsed_once(text) if len(text) <= _CACHED_BYTES_MAX else _parsed(text)

    def text(self, bytes_max: int = TOKEN_BYTES_MAX) -> str:
        """The URL-safe text form, without padding; at most so many characters."""
        components = COMPONENTS_MAX
        while True:
            text = self._text(self.seen.within(components))
            if len(text) <= bytes_max:
                return text
            components -= 8

    def _text(self, seen: Seen) -> str:
        flat: dict[bytes, list[int]] = {}
        for print_, offset in sorted(seen.items()):
            flat.setdefault(print_[:TOPIC_BYTES], []).extend((partition_of(print_), offset))
        payload: _Payload = (self.cluster, seen.is_cut, list(flat.items()))
        raw = bytes((_VERSION,)) + msgspec.msgpack.encode(payload)
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def covers(self, other: "Token") -> bool:
        """Whether this token covers the other. Raises: ForeignToken."""
        self._check_kin(other)
        return self.seen.covers(other.seen)

    def merge(self, other: "Token") -> "Token":
        """The least token that covers both. Raises: ForeignToken."""
        self._check_kin(other)
        return Token(self.cluster, self.seen.merge(other.seen))

    def is_of(self, catalog: Catalog) -> bool:
        """Whether it speaks of this catalog's cluster."""
        return self.cluster == _fingerprint(catalog.cluster_id)

    def check_cluster(self, catalog: Catalog) -> None:
        """Refuse a token of another cluster than this catalog's. Raises: ForeignToken."""
        if not self.is_of(catalog):
            raise ForeignToken("this token speaks of another cluster")

    def located(self, catalog: Catalog) -> Position:
        """Its part about topics of this catalog. Raises: ForeignToken for another cluster or topic."""
        self.check_cluster(catalog)
        for print_ in self.seen:
            topic = catalog.named_by(print_)
            if topic is not None and catalog.place_of(print_) is None:
                raise ForeignToken("this token speaks of a topic that was recreated since", topic=topic)
        return catalog.position(self.seen)

    def _check_kin(self, other: "Token") -> None:
        if self.cluster != other.cluster:
            raise ForeignToken("the two tokens speak of different clusters")
        mine = {print_[:NAME_BYTES]: print_[:TOPIC_BYTES] for print_ in self.seen}
        for print_ in other.seen:
            if mine.get(print_[:NAME_BYTES], print_[:TOPIC_BYTES]) != print_[:TOPIC_BYTES]:
                raise ForeignToken("a topic was recreated between the two tokens")


def _parsed(text: str) -> Token:
    if len(text) > TOKEN_BYTES_MAX or not _ALPHABET.fullmatch(text):
        raise MalformedToken("this is not a position token")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if not raw or raw[0] != _VERSION:
            raise MalformedToken("this position token has a version that is not known here")
        cluster, is_cut, topics = _decoder.decode(raw[1:])
        offsets = {
            _print(topic, partition): _checked(offset)
            for topic, flat in topics
            for partition, offset in zip(flat[::2], flat[1::2], strict=True)
        }
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise MalformedToken("this is not a position token") from error
    if len(cluster) != _CLUSTER_BYTES or len(offsets) > COMPONENTS_MAX:
        raise MalformedToken("this is not a position token")
    return Token(cluster, Seen(offsets, is_cut=is_cut))


_parsed_once = lru_cache(maxsize=_TOKENS_CACHED)(_parsed)


def _print(topic: bytes, partition: int) -> Print:
    if len(topic) != TOPIC_BYTES or not 0 <= partition <= _PARTITION_MAX:
        raise ValueError("no such partition")
    return partition_print(topic, partition)


def _checked(offset: int) -> int:
    if not 0 <= offset <= OFFSET_MAX:
        raise ValueError("no such offset")
    return offset


@lru_cache(maxsize=_CLUSTERS_CACHED)
def _fingerprint(identity: str) -> bytes:
    return hashlib.blake2b(identity.encode(), digest_size=_CLUSTER_BYTES).digest()
