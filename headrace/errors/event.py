"""What keeps one event from being applied."""

from headrace.errors.root import HeadraceError


class EventError(HeadraceError):
    """This event cannot be applied; its place in the log is part of the error."""

    hint = "It is a dead letter, or its partition stands still (on_error=); correct the agent or the type."


class DecodeError(EventError):
    """The bytes of an event do not fit the type that its topic declares."""


class HandlerError(EventError):
    """An agent raised while this event was in its hand; the cause is chained."""


class AgentReturned(EventError):
    """An agent ended instead of asking its stream for the next event."""

    hint = "An agent loops over its stream for ever: `async for event in events:`."


class PartitionerMismatch(EventError):
    """An event lies in another partition than the declared partitioner gives for its key."""

    hint = "Declare the topic's own: app.topic(..., partitioner='crc32') for librdkafka's default."


class RecordTooLarge(EventError):
    """A record is larger than the log accepts."""

    hint = "Send less in one event, or raise the topic's max.message.bytes and HEADRACE_RECORD_BYTES_MAX."


class TooManyDeadLetters(EventError):
    """An agent refused so many events in a row that the fault is its own."""

    hint = "Correct the agent or the declared type and start again; what is not committed is read again."


class UnencodableValue(EventError):
    """A key or value that the wire format or a table row cannot hold."""

    hint = "JSON holds neither NaN nor infinities, and a value must have the declared type."


class MalformedStamp(EventError):
    """The stamp of an event, which says what its sender had seen, cannot be read."""

    hint = "Its producer writes stamps of another version, or wrong ones; send it again without a stamp."


class UntrueStamp(EventError):
    """A stamp names events that are not in the log: they would be waited for in vain."""

    hint = "Its producer made the stamp up, or the input lost its end; send the event again without a stamp."


class UncoverableStamp(EventError):
    """A stamp speaks of an input that was recreated since: its events can never be applied here."""

    hint = "If the event is to count all the same, replay it from the dead letters: a replay does not wait."
