"""What a table cannot do here and now."""

from collections.abc import Sequence

from headrace.errors.root import HeadraceError


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
