"""Values as bytes: JSON by the declared type, raw bytes where the type is bytes."""

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from headrace.errors import DeclarationError, DecodeError, UnencodableValue

V = TypeVar("V")

_encode_json = msgspec.json.Encoder().encode

Upcast = Callable[[Any], Any]
"""Makes the JSON of an older shape (dicts, lists, text, numbers) one that fits the declared type."""

_IMMUTABLE = (
    msgspec.inspect.NoneType,
    msgspec.inspect.BoolType,
    msgspec.inspect.IntType,
    msgspec.inspect.FloatType,
    msgspec.inspect.StrType,
    msgspec.inspect.BytesType,
    msgspec.inspect.DateTimeType,
    msgspec.inspect.DateType,
    msgspec.inspect.TimeType,
    msgspec.inspect.TimeDeltaType,
    msgspec.inspect.UUIDType,
    msgspec.inspect.DecimalType,
    msgspec.inspect.EnumType,
    msgspec.inspect.LiteralType,
)


class ValueCodec(Generic[V]):
    """One value type as bytes and back.

    Shape: JSON; values of an event topic declared as `bytes` stay raw (`is_raw`), a table row of
    type `bytes` is a base64 JSON string, because rows are what HTTP returns. `upcast` is asked
    only for values that are JSON and do not fit the type.
    """

    def __init__(self, value_type: Any, *, is_raw: bool = False, upcast: Upcast | None = None) -> None:
        self.value_type = value_type
        self.is_raw = is_raw
        try:
            info = msgspec.inspect.type_info(value_type)
            self._decoder: msgspec.json.Decoder[V] = msgspec.json.Decoder(value_type)
        except TypeError as error:
            raise DeclarationError(
                f"{value_type!r} cannot be a value type: {error}",
                hint="Use a msgspec Struct, a union of tagged ones, int, float, str, bytes, dict or list.",
            ) from error
        self.is_immutable = _is_immutable(info, ())
        """Whether a decoded value can be shared: nobody can change it in place."""
        self._classes = _classes(info)
        self._may_hold_floats = _may_hold_floats(info, ())
        self._upcast = upcast
        self.decode: Callable[[bytes], V] = self._decoder.decode if upcast is None else self._decode_any_shape
        if is_raw:
            if upcast is not None:
                raise DeclarationError("bytes have no shape to upcast", hint="Declare a value_type=.")
            self.decode = self._decode_raw
        """The value behind the bytes. Raises: msgspec.MsgspecError or UnicodeError, see `decoded`."""

    def _decode_raw(self, raw: bytes) -> Any:
        return raw

    def _decode_any_shape(self, raw: bytes) -> V:
        try:
            return self._decoder.decode(raw)
        except msgspec.ValidationError as unfit:
            assert self._upcast is not None
            try:
                upcast = self._upcast(msgspec.json.decode(raw))
                return self._decoder.decode(_encode_json(upcast))
            except Exception as error:
                # Whatever the user's function raises says the same: this value has no newer shape.
                raise msgspec.ValidationError(f"{unfit}, and upcast does not help: {error!r}") from error

    @property
    def has_upcast(self) -> bool:
        """Whether values of an older shape can be read."""
        return self._upcast is not None

    def renewed(self, raw: bytes) -> bytes:
        """The bytes in the declared type's shape. Raises: DecodeError."""
        return raw if self._upcast is None else self.encode(self.decoded(raw))

    def decoded(self, raw: bytes) -> V:
        """The value behind the bytes. Raises: DecodeError."""
        try:
            return self.decode(raw)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise DecodeError(str(error)) from error

    def check(self, value: V) -> None:
        """Refuse what would not read back: another type, NaN, an infinity. Raises: UnencodableValue."""
        kind = type(value)
        # A bool is an int to Python, but not to JSON, where it would not read back as one.
        if (
            self._classes
            and kind not in self._classes
            and (kind is bool or not isinstance(value, self._classes))
        ):
            wanted = " | ".join(sorted(c.__name__ for c in self._classes))
            raise UnencodableValue(f"the value must be {wanted}, not {kind.__name__}")
        if self._may_hold_floats and not _is_finite(value):
            raise UnencodableValue(f"this {type(value).__name__} holds a NaN or an infinity")

    def encode(self, value: V) -> bytes:
        """The value as bytes. Raises: UnencodableValue for what JSON cannot hold."""
        if self.is_raw:
            return value  # type: ignore[return-value]
        try:
            return _encode_json(value)
        except (TypeError, ValueError, UnicodeError, RecursionError) as error:
            raise UnencodableValue(f"this {type(value).__name__} has no JSON form: {error}") from error


def topic_codec(value_type: Any, upcast: Upcast | None = None) -> ValueCodec[Any]:
    """The codec of an event topic's values."""
    return ValueCodec(value_type, is_raw=value_type is bytes, upcast=upcast)


def row_codec(value_type: Any, upcast: Upcast | None = None) -> ValueCodec[Any]:
    """The codec of a table's rows."""
    return ValueCodec(value_type, upcast=upcast)


def _is_immutable(info: msgspec.inspect.Type, seen: tuple[type, ...]) -> bool:
    match info:
        case msgspec.inspect.Metadata():
            return _is_immutable(info.type, seen)
        case msgspec.inspect.UnionType():
            return all(_is_immutable(part, seen) for part in info.types)
        case msgspec.inspect.StructType():
            if info.cls in seen:
                return True
            inner = (*seen, info.cls)
            return info.cls.__struct_config__.frozen and all(
                _is_immutable(f.type, inner) for f in info.fields
            )
        case msgspec.inspect.TupleType():
            return all(_is_immutable(part, seen) for part in info.item_types)
        case msgspec.inspect.VarTupleType() | msgspec.inspect.FrozenSetType():
            return _is_immutable(info.item_type, seen)
        case _:
            return isinstance(info, _IMMUTABLE)


def _may_hold_floats(info: msgspec.inspect.Type, seen: tuple[type, ...]) -> bool:
    match info:
        case msgspec.inspect.Metadata():
            return _may_hold_floats(info.type, seen)
        case msgspec.inspect.UnionType():
            return any(_may_hold_floats(part, seen) for part in info.types)
        case msgspec.inspect.StructType():
            if info.cls in seen:
                return False
            inner = (*seen, info.cls)
            return any(_may_hold_floats(field.type, inner) for field in info.fields)
        case msgspec.inspect.TupleType():
            return any(_may_hold_floats(part, seen) for part in info.item_types)
        case msgspec.inspect.DictType():
            return _may_hold_floats(info.value_type, seen) or _may_hold_floats(info.key_type, seen)
        case msgspec.inspect.CollectionType():
            return _may_hold_floats(info.item_type, seen)
        case _:
            return isinstance(info, (msgspec.inspect.FloatType, msgspec.inspect.AnyType)) or not isinstance(
                info, _IMMUTABLE
            )


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, msgspec.Struct):
        return all(_is_finite(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, dict):
        return all(_is_finite(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_finite(part) for part in value)
    return True


def _classes(info: msgspec.inspect.Type) -> tuple[type, ...]:
    """The classes a value may have; empty when that cannot be told by class alone."""
    plain: dict[type, tuple[type, ...]] = {
        msgspec.inspect.IntType: (int,),
        msgspec.inspect.FloatType: (float, int),
        msgspec.inspect.StrType: (str,),
        msgspec.inspect.BoolType: (bool,),
        msgspec.inspect.BytesType: (bytes,),
        msgspec.inspect.NoneType: (type(None),),
        msgspec.inspect.DictType: (dict,),
        msgspec.inspect.ListType: (list,),
    }
    if isinstance(info, (msgspec.inspect.StructType, msgspec.inspect.EnumType)):
        return (info.cls,)
    if isinstance(info, msgspec.inspect.UnionType):
        parts = [_classes(part) for part in info.types]
        return tuple(c for part in parts for c in part) if all(parts) else ()
    return plain.get(type(info), ())
