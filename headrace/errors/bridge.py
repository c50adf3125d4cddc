"""What goes wrong with the database that is being left, and with what is compared with it."""

from headrace.errors.event import EventError
from headrace.errors.root import DeclarationError, HeadraceError


class BridgeError(HeadraceError):
    """Something between the shared database and the events is not as it must be."""

    hint = "See docs/howto/apply-to-a-database.md."


class DatabaseUnavailable(BridgeError):
    """The database does not answer, or has ended the connection: what was not committed is undone."""

    hint = "Check that it runs and takes connections from here; the worker tries again by itself."
    is_recoverable = True


class CommitInDoubt(DatabaseUnavailable):
    """The connection was lost while a transaction was committed: its outcome is read from the database."""


class ApplierFenced(DatabaseUnavailable):
    """Another worker applies this partition: nothing of this transaction was committed."""

    hint = "Nothing to do: a rebalance looks like this. If it goes on, two apps share one app id."


class StatementRefused(EventError):
    """The database refuses a statement: the event whose statement it is cannot be applied as it is."""

    hint = "It is a dead letter, or its partition stands still (on_error=); correct the statement or the row."


class OutsideTransaction(BridgeError):
    """An event was to be left in an outbox by itself: it would be there although its cause is undone."""

    hint = "Begin a transaction first, and write the event beside what it tells of."


class SchemaMismatch(BridgeError):
    """A table that headrace keeps in the database is missing, or of another version."""

    hint = "Let a worker create it, or run the statements of docs/howto/leave-a-database.md yourself."


class OutboxLost(BridgeError):
    """The outbox is not the one that the relay has published from."""

    hint = "The database was restored or replaced: compare it with the topic before anything is published."


class DriftFound(BridgeError):
    """Two tables that should be the same at one position are not."""

    hint = "`headrace bridge diff` shows every row that differs, and which correction events would repair it."


class NotAtOnePosition(BridgeError):
    """A table and the database did not come to one position in time."""

    hint = "Look whether both run: `headrace tables` and headrace_positions show how far each is."


class CutoverRefused(BridgeError):
    """A step of a migration is not taken, because what it needs is not so."""

    hint = "The message says what is missing; put that right, then take the step again."


class ContractOnly(DeclarationError):
    """A worker that runs by its contract alone was about to open a database."""

    hint = (
        "Ask the service that owns the data, or fold its events; or start the worker without --contract-only."
    )
