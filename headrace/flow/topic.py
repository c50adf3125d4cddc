"""A topic as the app declares it: types, partitions, and `send`."""

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from headrace.errors import DeclarationError, NotSupported
from headrace.events.envelope import EnvelopeFormat
from headrace.events.event import Event
from headrace.events.key import BytesKey, KeyCodec, key_codec
from headrace.events.partitioner import Partitioner
from headrace.events.value import Upcast, ValueCodec, topic_codec
from headrace.flow.sending import Sent, current_sender
from headrace.log.port import TopicSpec

K = TypeVar("K")
V = TypeVar("V")


class _SameKey:
    """Stands for: the key of the event in hand."""


SAME_KEY: Final = _SameKey()


class Topic(Generic[K, V]):
    """A topic declared on the app; agents iterate over it, everybody sends to it."""

    def __init__(
        self,
        name: str,
        *,
        key_type: Any = None,
        value_type: Any = bytes,
        spec: TopicSpec | None = None,
        partitioner: Partitioner = Partitioner.MURMUR2,
        envelope: EnvelopeFormat = EnvelopeFormat.COMPACT,
        upcast: Upcast | None = None,
    ) -> None:
        self.name = name
        self.is_keyed = key_type is not None
        """Whether every event must carry a key."""
        self.keys: KeyCodec[Any] = key_codec(key_type) if key_type is not None else BytesKey()
        self.values: ValueCodec[Any] = topic_codec(value_type, upcast)
        self.spec = spec or TopicSpec(name=name)
        self.partitioner = partitioner
        self.envelope = envelope
        self.names_types = envelope is EnvelopeFormat.CLOUDEVENTS
        """Whether the envelope of an event says of which type it is."""

    def __repr__(self) -> str:
        return f"<Topic {self.name}>"

    async def send(
        self,
        *,
        value: V | None,
        key: K | _SameKey | None = SAME_KEY,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Sent:
        """Send an event (value None: a tombstone).

        Inside an agent: into the unit in hand, visible if and only if the unit commits; the key is
        that of the event in hand unless given. In a route or timer: into the one transaction of
        the request or tick. In a task: a transaction of its own, durable when this returns.
        Raises: UnencodableValue, RecordTooLarge, OutsideAgent where no worker runs.
        """
        sender = current_sender()
        if isinstance(key, _SameKey):
            raw_key = sender.key_in_hand()
        else:
            raw_key = None if key is None else self.keys.to_wire(key)
        if raw_key is None and self.is_keyed:
            raise DeclarationError(
                f"an event for topic {self.name} needs a key",
                hint="Give send() a key=, the topic declares one.",
            )
        raw_value = None
        if value is not None:
            self.values.check(value)
            raw_value = self.values.encode(value)
        sent = sender.send(
            self,
            key=raw_key,
            value=raw_value,
            type_name=self._type_name(value) if self.names_types else "",
            headers=tuple(headers.items()) if headers else (),
            partition=partition,
            timestamp_ms=timestamp_ms,
        )
        # In an agent it is done with that: a coroutine for each event would cost a tenth of sending it.
        return sent if isinstance(sent, Sent) else await sent

    def _type_name(self, value: V | None) -> str:
        return type(value).__name__ if isinstance(value, Event) else ""

    def decode(self, raw: bytes | None) -> Any:
        """The event behind a record's value; None for a tombstone. Raises: msgspec.MsgspecError."""
        return None if raw is None else self.values.decode(raw)

    def __getattr__(self, name: str) -> Any:
        if name in (
            "stream",
            "get_stream",
            "send_soon",
            "derive",
            "derive_topic",
            "maybe_declare",
            "declare",
        ):
            raise NotSupported(f"Topic.{name} is not part of headrace")
        raise AttributeError(name)


def parse_partitioner(name: str) -> Partitioner:
    """The partitioner of this name. Raises: DeclarationError."""
    try:
        return Partitioner(name)
    except ValueError as error:
        known = ", ".join(Partitioner)
        raise DeclarationError(f"{name!r} is no partitioner; known are {known}") from error


def parse_envelope(name: str) -> EnvelopeFormat:
    """The envelope format of this name. Raises: DeclarationError."""
    try:
        return EnvelopeFormat(name)
    except ValueError as error:
        known = ", ".join(EnvelopeFormat)
        raise DeclarationError(f"{name!r} is no envelope format; known are {known}") from error
