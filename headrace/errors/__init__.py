"""Everything headrace raises, as one tree.

HeadraceError
    DeclarationError        the app is put together wrong; raised before any I/O
        NotSupported        Faust has it, headrace does not (yet)
        SettingsError       a setting is unknown, malformed or contradicts another
        ContractOnly        a worker without a database was about to open one
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
        StatementRefused    a database refuses a statement of its agent
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
            WorkerStopping  this worker stops, and sends nothing any more
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
    BridgeError             the database that is being left is not as it must be
        DatabaseUnavailable it does not answer; trying again may help
            CommitInDoubt   the connection was lost in a commit
            ApplierFenced   another worker applies this partition
        SchemaMismatch      a table of headrace's own is missing there, or another one
        OutsideTransaction  an event was to be left in an outbox by itself
        OutboxLost          the outbox is not the one that was published from
        DriftFound          two tables differ at one position
        NotAtOnePosition    two tables did not come to one position in time
        CutoverRefused      a step of a migration is not taken
"""

from headrace.errors.bridge import (
    ApplierFenced,
    BridgeError,
    CommitInDoubt,
    ContractOnly,
    CutoverRefused,
    DatabaseUnavailable,
    DriftFound,
    NotAtOnePosition,
    OutboxLost,
    OutsideTransaction,
    SchemaMismatch,
    StatementRefused,
)
from headrace.errors.event import (
    AgentReturned,
    DecodeError,
    EventError,
    HandlerError,
    MalformedStamp,
    PartitionerMismatch,
    RecordTooLarge,
    TooManyDeadLetters,
    UncoverableStamp,
    UnencodableValue,
    UntrueStamp,
)
from headrace.errors.log import (
    AlreadyRunning,
    CommitUnknown,
    Fenced,
    ForkedChangelog,
    LogError,
    OffsetOutOfRange,
    RecordRefused,
    TopicMismatch,
    Unavailable,
    WorkerStopping,
)
from headrace.errors.request import (
    ForeignToken,
    KeyReused,
    MalformedKey,
    MalformedToken,
    PeerError,
    PeerUnproven,
    PeerUnreachable,
    PositionError,
    RequestError,
    UnrecordableAnswer,
    UntrueToken,
)
from headrace.errors.root import (
    DeclarationError,
    HeadraceError,
    NotSupported,
    SettingsError,
)
from headrace.errors.table import (
    ForeignKey,
    GlobalRecovering,
    NotOwner,
    NotReached,
    OutsideAgent,
    PartitionStopped,
    RowMismatch,
    StillRecovering,
    StoreCorrupt,
    StoreInUse,
    StoreUnwritable,
    TableError,
    TaskFailed,
    TooManyWaiters,
)

__all__ = [
    "AgentReturned",
    "AlreadyRunning",
    "ApplierFenced",
    "BridgeError",
    "CommitInDoubt",
    "CommitUnknown",
    "ContractOnly",
    "CutoverRefused",
    "DatabaseUnavailable",
    "DeclarationError",
    "DecodeError",
    "DriftFound",
    "EventError",
    "Fenced",
    "ForeignKey",
    "ForeignToken",
    "ForkedChangelog",
    "GlobalRecovering",
    "HandlerError",
    "HeadraceError",
    "KeyReused",
    "LogError",
    "MalformedKey",
    "MalformedStamp",
    "MalformedToken",
    "NotAtOnePosition",
    "NotOwner",
    "NotReached",
    "NotSupported",
    "OffsetOutOfRange",
    "OutboxLost",
    "OutsideAgent",
    "OutsideTransaction",
    "PartitionStopped",
    "PartitionerMismatch",
    "PeerError",
    "PeerUnproven",
    "PeerUnreachable",
    "PositionError",
    "RecordRefused",
    "RecordTooLarge",
    "RequestError",
    "RowMismatch",
    "SchemaMismatch",
    "SettingsError",
    "StatementRefused",
    "StillRecovering",
    "StoreCorrupt",
    "StoreInUse",
    "StoreUnwritable",
    "TableError",
    "TaskFailed",
    "TooManyDeadLetters",
    "TooManyWaiters",
    "TopicMismatch",
    "Unavailable",
    "UncoverableStamp",
    "UnencodableValue",
    "UnrecordableAnswer",
    "UntrueStamp",
    "UntrueToken",
    "WorkerStopping",
]
