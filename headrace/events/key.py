"""Keys in their three forms: Python, the wire's text, and the order-preserving bytes of a store."""

import base64
import binascii
import uuid
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec

from headrace.errors import DeclarationError, DecodeError, UnencodableValue

K = TypeVar("K")

_INT_BYTES_MAX = 127


class KeyCodec(ABC, Generic[K]):
    """One key type in all its forms.

    Shape: on the wire text (a tuple is a JSON array), `bytes` as they are; in a store bytes whose
    order is the order of the keys.
    """

    @abstractmethod
    def to_wire(self, key: K) -> bytes:
        """The key as record key. Raises: UnencodableValue for a key of another type."""

    @abstractmethod
    def from_wire(self, raw: bytes) -> K:
        """The key behind a record key. Raises: DecodeError."""

    @abstractmethod
    def to_store(self, key: K) -> bytes:
        """The key as store key: order-preserving, not self-delimiting."""

    @abstractmethod
    def from_store(self, raw: bytes) -> K:
        """The key behind a store key."""

    def from_text(self, text: str) -> K:
        """The key that a URL names. Raises: DecodeError."""
        try:
            return self.from_wire(text.encode())
        except UnicodeEncodeError as error:
            raise DecodeError("this key is not valid text") from error

    def to_part(self, key: K) -> bytes:
        """The key as a self-delimiting part of a tuple's store key."""
        return self.to_store(key)

    @abstractmethod
    def split_part(self, raw: bytes, at: int) -> tuple[K, int]:
        """The part that begins at `at`, and where the next one begins."""

    @abstractmethod
    def to_json(self, key: K) -> Any:
        """The key as an element of a JSON array."""

    @abstractmethod
    def from_json(self, element: Any) -> K:
        """The key behind an element of a JSON array. Raises: DecodeError."""


class StrKey(KeyCodec[str]):
    """Text, UTF-8: its byte order is its code point order."""

    def to_wire(self, key: str) -> bytes:
        if not isinstance(key, str):
            raise _wrong_type("str", key)
        try:
            return key.encode()
        except UnicodeEncodeError as error:
            raise UnencodableValue("a key with lone surrogates has no UTF-8 form") from error

    def from_wire(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise DecodeError("the key is not UTF-8") from error

    to_store = to_wire

    def from_store(self, raw: bytes) -> str:
        return raw.decode()

    def to_part(self, key: str) -> bytes:
        return _escape(self.to_wire(key))

    def split_part(self, raw: bytes, at: int) -> tuple[str, int]:
        part, after = _unescape(raw, at)
        return part.decode(), after

    def to_json(self, key: str) -> Any:
        self.to_wire(key)
        return key

    def from_json(self, element: Any) -> str:
        if not isinstance(element, str):
            raise DecodeError("this element of the key is not text")
        return element


class BytesKey(KeyCodec[bytes]):
    """Bytes as they are; base64url where only text can stand."""

    def to_wire(self, key: bytes) -> bytes:
        if not isinstance(key, bytes):
            raise _wrong_type("bytes", key)
        return key

    def from_wire(self, raw: bytes) -> bytes:
        return raw

    to_store = to_wire
    from_store = from_wire

    def from_text(self, text: str) -> bytes:
        return self.from_json(text)

    def to_part(self, key: bytes) -> bytes:
        return _escape(self.to_wire(key))

    def split_part(self, raw: bytes, at: int) -> tuple[bytes, int]:
        return _unescape(raw, at)

    def to_json(self, key: bytes) -> Any:
        return base64.urlsafe_b64encode(self.to_wire(key)).decode().rstrip("=")

    def from_json(self, element: Any) -> bytes:
        try:
            return base64.b64decode(element + "=" * (-len(element) % 4), altchars=b"-_", validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise DecodeError("this key is not base64url") from error


class IntKey(KeyCodec[int]):
    """Integers as decimal text; in a store a length byte and the magnitude, so that order holds.

    Shape: up to 127 bytes of magnitude, far beyond 64 bits; `bool` is refused.
    """

    def to_wire(self, key: int) -> bytes:
        if type(key) is not int:
            raise _wrong_type("int", key)
        return b"%d" % key

    def from_wire(self, raw: bytes) -> int:
        digits = raw[1:] if raw[:1] == b"-" else raw
        # int() also takes "+1", " 1 ", "1_0" and "01": several wire forms of one key would live
        # in different partitions.
        if not digits.isdigit() or (digits[:1] == b"0" and raw != b"0") or len(digits) > 300:
            raise DecodeError("the key is not a decimal integer in its shortest form")
        return int(raw)

    def to_store(self, key: int) -> bytes:
        if type(key) is not int:
            raise _wrong_type("int", key)
        size = (abs(key).bit_length() + 7) // 8
        if size > _INT_BYTES_MAX:
            raise UnencodableValue("an integer key is larger than 127 bytes")
        if key >= 0:
            return bytes((0x80 + size,)) + key.to_bytes(size, "big")
        return bytes((0x80 - size,)) + (key + (1 << 8 * size) - 1).to_bytes(size, "big")

    def from_store(self, raw: bytes) -> int:
        return self.split_part(raw, 0)[0]

    def split_part(self, raw: bytes, at: int) -> tuple[int, int]:
        size = raw[at] - 0x80
        after = at + 1 + abs(size)
        magnitude = int.from_bytes(raw[at + 1 : after], "big")
        return (magnitude if size >= 0 else magnitude - (1 << -8 * size) + 1), after

    def to_json(self, key: int) -> Any:
        self.to_wire(key)
        return key

    def from_json(self, element: Any) -> int:
        if type(element) is not int:
            raise DecodeError("this element of the key is not an integer")
        return element


class UuidKey(KeyCodec[uuid.UUID]):
    """UUIDs in their usual text form; 16 bytes in a store."""

    def to_wire(self, key: uuid.UUID) -> bytes:
        if not isinstance(key, uuid.UUID):
            raise _wrong_type("UUID", key)
        return str(key).encode()

    def from_wire(self, raw: bytes) -> uuid.UUID:
        try:
            key = uuid.UUID(raw.decode())
        except ValueError as error:
            raise DecodeError("the key is not a UUID") from error
        if str(key).encode() != raw:
            raise DecodeError("the key is not a UUID in its usual lower-case form")
        return key

    def to_store(self, key: uuid.UUID) -> bytes:
        return key.bytes

    def from_store(self, raw: bytes) -> uuid.UUID:
        return uuid.UUID(bytes=raw)

    def split_part(self, raw: bytes, at: int) -> tuple[uuid.UUID, int]:
        return uuid.UUID(bytes=raw[at : at + 16]), at + 16

    def to_json(self, key: uuid.UUID) -> Any:
        return self.to_wire(key).decode()

    def from_json(self, element: Any) -> uuid.UUID:
        if not isinstance(element, str):
            raise DecodeError("this element of the key is not a UUID")
        return self.from_wire(element.encode())


class TupleKey(KeyCodec[tuple[Any, ...]]):
    """Tuples of the other types: a JSON array on the wire, ordered part by part in a store."""

    def __init__(self, parts: tuple[KeyCodec[Any], ...]) -> None:
        self.parts = parts

    def _checked(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        if not isinstance(key, tuple) or len(key) != len(self.parts):
            raise UnencodableValue(f"this key must be a tuple of {len(self.parts)}, not {type(key).__name__}")
        return key

    def to_wire(self, key: tuple[Any, ...]) -> bytes:
        return msgspec.json.encode(self.to_json(key))

    def from_wire(self, raw: bytes) -> tuple[Any, ...]:
        try:
            key = self.from_json(msgspec.json.decode(raw))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise DecodeError(f"the key is not a JSON array: {error}") from error
        if self.to_wire(key) != raw:
            raise DecodeError("the key is a JSON array, but not in its shortest form")
        return key

    def to_store(self, key: tuple[Any, ...]) -> bytes:
        return b"".join(part.to_part(k) for part, k in zip(self.parts, self._checked(key), strict=True))

    def from_store(self, raw: bytes) -> tuple[Any, ...]:
        return self.split_part(raw, 0)[0]

    def split_part(self, raw: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        elements = []
        for part in self.parts:
            element, at = part.split_part(raw, at)
            elements.append(element)
        return tuple(elements), at

    def to_json(self, key: tuple[Any, ...]) -> Any:
        return [part.to_json(k) for part, k in zip(self.parts, self._checked(key), strict=True)]

    def from_json(self, element: Any) -> tuple[Any, ...]:
        if not isinstance(element, list) or len(element) != len(self.parts):
            raise DecodeError(f"the key is not a JSON array of {len(self.parts)}")
        return tuple(part.from_json(e) for part, e in zip(self.parts, element, strict=True))


_SCALARS: dict[Any, KeyCodec[Any]] = {str: StrKey(), bytes: BytesKey(), int: IntKey(), uuid.UUID: UuidKey()}


def key_codec(key_type: Any) -> KeyCodec[Any]:
    """The codec of a key type: str, int, bytes, UUID or tuples of these. Raises: DeclarationError."""
    if key_type in _SCALARS:
        return _SCALARS[key_type]
    args = get_args(key_type)
    if get_origin(key_type) is tuple and args and args[-1] is not Ellipsis:
        return TupleKey(tuple(key_codec(arg) for arg in args))
    raise DeclarationError(
        f"{key_type!r} cannot be a key type",
        hint="Use str, int, bytes, uuid.UUID, or a tuple of these such as tuple[int, str].",
    )


def _wrong_type(wanted: str, key: object) -> UnencodableValue:
    return UnencodableValue(f"the key must be {wanted}, not {type(key).__name__}")


def _escape(raw: bytes) -> bytes:
    return raw.replace(b"\0", b"\0\xff") + b"\0\0"


def _unescape(raw: bytes, at: int) -> tuple[bytes, int]:
    end = at
    while True:
        end = raw.index(b"\0", end)
        if raw[end + 1] == 0:
            return raw[at:end].replace(b"\0\xff", b"\0"), end + 2
        end += 2
