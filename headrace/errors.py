"""Everything headrace raises, as one tree.

HeadraceError
    DeclarationError        the app is put together wrong; raised before any I/O
        NotSupported        Faust has it, headrace does not (yet)
        SettingsError       a setting is unknown, malformed or contradicts another
    EventError              this event cannot be applied where it stands
        DecodeError         its bytes do not fit the declared type
        HandlerError        an agent raised while it was in hand
        AgentReturned       an agent ended instead of asking for its next event
        PartitionerMismatch its key was placed by another partitioner than declared
        RecordTooLarge      what it sent is larger than the log takes
        TooManyDeadLetters  one agent refused event after event: a bug, not bad data
        UnencodableValue    a key or value that the wire or a table cannot hold
        MalformedStamp      what it says of its sender cannot be read
        UntrueStamp         it says that its sender saw what is not in the log
        UncoverableStamp    its sender saw a topic that was deleted or recreated since
    TableError              what a table cannot do here and now
        OutsideAgent        written outside of the agent's unit of work
        ForeignKey          a key that belongs to another partition
        StillRecovering     the partition is being restored
            GlobalRecovering    a global table is, that an agent reads
        NotOwner            the partition lives in another worker
        PartitionStopped    the partition stands in front of an event that its agent refuses
        TaskFailed          the partition's task failed while somebody waited for it
        NotReached          the rows do not contain in time what was asked for
        TooManyWaiters      as many wait for a position as are allowed
        StoreCorrupt        the files of a store cannot be trusted
        StoreUnwritable     the disk refuses what the store writes
        StoreInUse          another process holds the store
        RowMismatch         a stored row does not fit the declared value type
    LogError                the log refused, or cannot be reached
        Unavailable         nobody answers; trying again may help
        Fenced              another holder of this transactional id took over
        CommitUnknown       the commit was sent and its outcome is not known
        RecordRefused       the log does not take a record of this unit
        OffsetOutOfRange    the position to read from is not in the log (any more)
        TopicMismatch       a topic is missing, recreated, or has other partitions
        ForkedChangelog     a changelog is not its owner's alone; unit numbers fell, say
        AlreadyRunning      another worker of this app holds the embedded log
    PeerError               another worker of the app cannot be asked
        PeerUnreachable     it does not answer, or not in time
        PeerUnproven        nothing proves that it is the worker that it is announced as
    RequestError            a request with an Idempotency-Key that is not taken
        MalformedKey        the header is no key
        KeyReused           the key was used for another request
        UnrecordableAnswer  its answer is a stream, or too large, and could not be repeated
    PositionError           a position that cannot be judged here
        MalformedToken      not a position token
        ForeignToken        a token of another cluster or of a recreated topic
        UntrueToken         a token that names what is not in the log
"""

from collections.abc import Sequence
from typing import ClassVar


class HeadraceError(Exception):
    """What happened, where, and what to do next."""

    hint: ClassVar[str] = ""
    """What to do next, unless the raiser knows better."""
    is_recoverable: ClassVar[bool] = False
    """Whether taking the task over again, from store and changelog, can cure it."""

    def __init__(
        self,
        what: str,
        *,
        hint: str | None = None,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
    ) -> None:
        self.what = what
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.next_step = self.hint if hint is None else hint
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        places = {"topic": self.topic, "partition": self.partition, "offset": self.offset}
        where = ", ".join(f"{name} {value}" for name, value in places.items() if value is not None)
        sentence = f"{self.what} ({where})" if where else self.what
        return f"{sentence}. {self.next_step}" if self.next_step else sentence


class DeclarationError(HeadraceError):
    """The app is put together wrong."""

    hint = "Correct the declaration and start again."


class NotSupported(DeclarationError):
    """Faust has this, headrace does not support it yet."""

    hint = "See docs/from-faust.md for what to write instead."


class SettingsError(DeclarationError):
    """A setting is unknown, malformed, or contradicts another one."""

    hint = "`headrace config` shows every setting and where its value came from."


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


class TableError(HeadraceError):
    """What a table cannot do here and now."""


class OutsideAgent(TableError):
    """A table was written where no unit of work is open."""

    hint = "Only an agent writes tables, while it handles an event; send an event to it instead."


class ForeignKey(TableError):
    """A key that belongs to another partition than the event in hand."""

    hint = "Send an event to a topic that is keyed by this key, and let its agent write the row."


class StillRecovering(TableError):
    """The partition is being restored from its changelog."""

    hint = "Try again shortly; /readyz tells how far the restore is."


class GlobalRecovering(StillRecovering):
    """A global table that an agent reads is being restored; the agent's task waits for it."""

    is_recoverable = True


class NotOwner(TableError):
    """The partition of this key lives in another worker, or in none at the moment."""

    hint = "Ask the worker that owns the partition, or try again after the rebalance."


class PartitionStopped(TableError):
    """The partition stands still in front of an event that its agent refuses."""

    hint = "The worker's log names the event; correct what refuses it, then restart the worker."


class TaskFailed(TableError):
    """The task of a partition failed while somebody waited for it; it is taken over again."""

    hint = "Try again shortly: nothing that was committed is lost."

    def __init__(self, what: str, *, failure: HeadraceError | None = None) -> None:
        self.failure = failure
        """What the task failed with."""
        super().__init__(what if failure is None else f"{what}: {type(failure).__name__}")


class NotReached(TableError):
    """The rows do not contain what was asked for, and the time to wait for it is over."""

    hint = "Try again shortly, or read what there is by leaving the position out."

    def __init__(self, what: str, *, reached: str = "", missing: Sequence[str] = ()) -> None:
        self.reached = reached
        """Token of the position that was reached; empty where it is not known."""
        self.missing = tuple(missing)
        """What was still missing, as `topic/partition@offset`."""
        super().__init__(what)


class TooManyWaiters(TableError):
    """As many requests wait for a position already as may wait at once."""

    hint = "Try again shortly, or raise HEADRACE_READ_WAITERS_MAX."


class StoreCorrupt(TableError):
    """The files of a store cannot be trusted."""

    hint = "Nothing is lost: the files are moved aside, and the rows are rebuilt from the changelog."
    is_recoverable = True


class StoreUnwritable(TableError):
    """The disk refuses what the store writes: full, read-only, or failing."""

    hint = "Nothing is lost; the task is taken over again and again until the disk takes it."
    is_recoverable = True


class StoreInUse(TableError):
    """Another process holds the files of a store."""

    hint = "Stop the other worker, or give this one a HEADRACE_INSTANCE or HEADRACE_DATA of its own."


class RowMismatch(TableError):
    """A stored row does not fit the value type that the table declares."""

    hint = "Give new fields a default, give the table an upcast=, or rebuild it by `headrace reset`."


class LogError(HeadraceError):
    """The log refused, or cannot be reached."""

    hint = "The message is the log's own; correct what it names, and try again."


class Unavailable(LogError):
    """Nobody answers at the log's address."""

    hint = "Check that the log runs and can be reached; a worker goes on by itself as soon as it answers."
    is_recoverable = True


class Fenced(LogError):
    """Another holder of this transactional id has taken over."""

    hint = "The task goes on only if the group confirms that this worker owns it."
    is_recoverable = True


class CommitUnknown(LogError):
    """A commit was sent and its outcome is not known."""

    hint = "The task is taken over again and reads the outcome from its changelog."
    is_recoverable = True


class RecordRefused(LogError):
    """The log does not take a record of this unit; nothing of the unit was committed."""

    hint = "The events of the unit are committed one by one until the one is found that is refused."
    is_recoverable = True


class OffsetOutOfRange(LogError):
    """The position to read from is not in the log: deleted, truncated, or never written."""

    hint = (
        "What lies between is lost to this app; `headrace reset GROUP --from-what-is-left` rebuilds its "
        "tables from the events that the inputs still hold."
    )


class TopicMismatch(LogError):
    """A topic is missing, was recreated, or has another number of partitions than declared."""

    hint = "Make the topic what the app declares (`headrace topics` shows both), or correct the declaration."


class ForkedChangelog(LogError):
    """A changelog is not what one owner wrote: unit numbers fell, or a foreign record is in it."""

    hint = "Do not go on with this group; keep the topic for analysis and report it."


class AlreadyRunning(LogError):
    """Another worker of this app already runs on this embedded log."""

    hint = "One worker per app on the embedded log; for more set HEADRACE_LOG=kafka://host:9092."


class PeerError(HeadraceError):
    """Another worker of the app, which owns what was asked for, cannot be asked."""

    hint = "Its own log says more; try again, or ask that worker."

    def __init__(self, what: str, *, hint: str | None = None, was_sent: bool = False) -> None:
        super().__init__(what, hint=hint)
        self.was_sent = was_sent
        """Whether the request may have reached it: what it did then is not known."""


class PeerUnreachable(PeerError):
    """The worker that owns what was asked for does not answer, not in time, or nothing sensible."""

    hint = "Check that its address (HEADRACE_ADVERTISE) can be reached from here; try again shortly."


class PeerUnproven(PeerError):
    """Nothing proves that who answers at an announced address is that worker: it gets nothing to see."""

    hint = "Give all workers of the app the same HEADRACE_PEER_SECRET, or TLS and HEADRACE_PEER_CA_FILE."


class RequestError(HeadraceError):
    """A request with an Idempotency-Key that is not taken; nothing was sent."""

    hint = "The message says what is wrong with the request; correct it, and send it under a new key."


class MalformedKey(RequestError):
    """The Idempotency-Key header holds no key."""

    hint = 'Send one key of up to 255 visible characters, such as a UUID: Idempotency-Key: "8e03978e-40d5".'


class KeyReused(RequestError):
    """The Idempotency-Key was used for a request with another method, path or body."""

    hint = "Make a new key for each request; repeat a key only with the very same request."


class UnrecordableAnswer(RequestError):
    """The answer of an endpoint cannot be kept for repetition: it is a stream, or too large."""

    hint = "Send the request without Idempotency-Key, or let the endpoint answer in a few words."


class PositionError(HeadraceError):
    """A position that cannot be judged here."""


class MalformedToken(PositionError):
    """This text is not a position token."""

    hint = "Send back the Headrace-Position header as it was received."


class ForeignToken(PositionError):
    """A token of another cluster, or of a topic that was recreated since."""

    hint = "Forget the token and read without it."


class UntrueToken(PositionError):
    """A token that names what is not in the log."""

    hint = "Send back the Headrace-Position header as it was received, or read without it."
