"""Who may read: static bearer tokens, known here by their SHA-256 only."""

import hashlib
import hmac
from collections.abc import Sequence

from headrace.errors import SettingsError
from headrace.http.problems import Problem

UNAUTHORIZED = Problem(
    401, "This needs a bearer token that is valid here.", (b"www-authenticate", b'Bearer realm="headrace"')
)


class Guard:
    """Decides by the Authorization header whether a request is let in; without tokens everybody is."""

    __slots__ = ("_digests", "is_open")

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = tuple(_digest(token) for token in tokens)
        self.is_open = not self._digests

    def admits(self, authorization: bytes | None) -> bool:
        """Whether this header names a valid token; as slow for a near miss as for any other."""
        if self.is_open:
            return True
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return False
        given = hashlib.sha256(authorization[7:].strip()).digest()
        is_valid = False
        for digest in self._digests:
            is_valid |= hmac.compare_digest(given, digest)
        return is_valid


def _digest(token: str) -> bytes:
    """A digest that no token can match would lock everybody out in silence: it is refused instead."""
    try:
        digest = bytes.fromhex(token)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise SettingsError(
            "tokens holds something that is not a SHA-256 in hex",
            hint='Set HEADRACE_TOKENS to the output of `printf %s "$TOKEN" | sha256sum`, without file name.',
        )
    return digest
