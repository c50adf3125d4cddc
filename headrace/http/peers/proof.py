"""How workers of an app prove themselves to each other: a keyed hash, never the secret itself."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

HOP = b"headrace-hop"
PROOF = b"headrace-proof"
VALID_S = 30
"""How far the clocks of two workers may differ, and how long the proof of a hop stays valid."""

_VERSION = b"1"
_NO_PROOF = b"-"
_FIELD_BYTES_MAX = 1024


class HopHeader(NamedTuple):
    """What a worker says of itself when it asks another one."""

    to: bytes
    """App and instance that are meant, encoded."""
    at_ms: int
    proof: bytes


@lru_cache(maxsize=1024)
def name_of(app: str, instance: str) -> bytes:
    """App and instance as one word."""
    return base64.urlsafe_b64encode(app.encode() + b"\0" + instance.encode()).rstrip(b"=")


class Proofs:
    """Makes and checks proofs with the secrets that the workers of an app share; without any, of nothing."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Sequence[str]) -> None:
        # A secret is text of any length; what keys the hashes is 32 bytes of its own.
        self._secrets = [hashlib.sha256(b"headrace peers\0" + secret.encode()).digest() for secret in secrets]

    @property
    def are_made(self) -> bool:
        """Whether there is a secret."""
        return bool(self._secrets)

    def hop(self, to: bytes, now_ms: int, method: str, target: bytes) -> bytes:
        """The value of a Headrace-Hop header for one request to one worker."""
        proof = _NO_PROOF
        if self._secrets:
            proof = _proof(self._secrets[0], b"hop", to, b"%d" % now_ms, method.encode(), target)
        return b"%b %b %d %b" % (_VERSION, to, now_ms, proof)

    def is_of_peer(self, hop: HopHeader, now_ms: int, method: str, target: bytes) -> bool:
        """Whether a worker that knows a secret has asked exactly this, not long ago."""
        if abs(now_ms - hop.at_ms) > VALID_S * 1000:
            return False
        wanted = (b"hop", hop.to, b"%d" % hop.at_ms, method.encode(), target)
        return self._secret_of(hop.proof, wanted) is not None

    def identity(self, hop: HopHeader, method: str, target: bytes, address: bytes) -> bytes:
        """The proof that whoever is reached at this address is the worker that was asked for.

        It is made with the secret that the request was made with, and of the request itself, which
        nobody repeats: its target carries a random number.
        """
        wanted = (b"hop", hop.to, b"%d" % hop.at_ms, method.encode(), target)
        secret = self._secret_of(hop.proof, wanted)
        return _NO_PROOF if secret is None else _proof(secret, b"peer", hop.to, target, address)

    def is_identity(self, proof: bytes, to: bytes, target: bytes, address: bytes) -> bool:
        """Whether this proves that the worker `to` says of itself that this is its address."""
        if not self._secrets:
            return proof == _NO_PROOF
        return hmac.compare_digest(_proof(self._secrets[0], b"peer", to, target, address), proof)

    def _secret_of(self, proof: bytes, parts: tuple[bytes, ...]) -> bytes | None:
        found = None
        for secret in self._secrets:
            if hmac.compare_digest(_proof(secret, *parts), proof):
                found = secret
        return found


def parse_hop(value: bytes) -> HopHeader | None:
    """What a Headrace-Hop header says; None for one that no worker has written."""
    parts = value.split(b" ") if len(value) <= _FIELD_BYTES_MAX else []
    if len(parts) != 4 or parts[0] != _VERSION or not parts[2].isdigit() or len(parts[2]) > 15:
        return None
    return HopHeader(parts[1], int(parts[2]), parts[3])


def _proof(secret: bytes, *parts: bytes) -> bytes:
    # Each part with its length in front: no two lists of parts read the same.
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    # Keyed BLAKE2b (RFC 7693) costs a third of an HMAC over SHA-256, twice for each hop.
    return hashlib.blake2b(message, key=secret, digest_size=32).hexdigest().encode()
