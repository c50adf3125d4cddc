"""What the log refuses, or does not answer."""

from headrace.errors.root import HeadraceError


class LogError(HeadraceError):
    """The log refused, or cannot be reached."""

    hint = "The message is the log's own; correct what it names, and try again."


class Unavailable(LogError):
    """Nobody answers at the log's address."""

    hint = "Check that the log runs and can be reached; a worker goes on by itself as soon as it answers."
    is_recoverable = True


class WorkerStopping(Unavailable):
    """This worker stops, and sends nothing any more; nothing was committed."""

    hint = "Send it again: another worker takes it, or this one when it has started anew."


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
