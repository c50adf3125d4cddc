"""Kafka's error codes, by name, and which of them pass by themselves."""

from enum import IntEnum

from aiokafka.errors import for_code

from headrace.errors import Fenced, LogError, RecordRefused, Unavailable
from headrace.events.position import TopicPartition


class Code(IntEnum):
    """The error codes that this package tells apart."""

    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER = 6
    REQUEST_TIMED_OUT = 7
    REPLICA_NOT_AVAILABLE = 9
    MESSAGE_TOO_LARGE = 10
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOADING = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    TOPIC_AUTHORIZATION_FAILED = 29
    ILLEGAL_GENERATION = 22
    UNKNOWN_MEMBER_ID = 25
    REBALANCE_IN_PROGRESS = 27
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    TOPIC_ALREADY_EXISTS = 36
    NOT_CONTROLLER = 41
    OUT_OF_ORDER_SEQUENCE = 45
    DUPLICATE_SEQUENCE = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    CONCURRENT_TRANSACTIONS = 51
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    OPERATION_NOT_ATTEMPTED = 55
    KAFKA_STORAGE_ERROR = 56
    UNKNOWN_PRODUCER_ID = 59
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    OFFSET_NOT_AVAILABLE = 78
    MEMBER_ID_REQUIRED = 79
    FENCED_INSTANCE_ID = 82
    THROTTLING_QUOTA_EXCEEDED = 89
    PRODUCER_FENCED = 90
    UNKNOWN_TOPIC_ID = 100
    INCONSISTENT_TOPIC_ID = 103
    TRANSACTION_ABORTABLE = 120


LEADER_MOVED = frozenset(
    {
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.LEADER_NOT_AVAILABLE,
        Code.NOT_LEADER,
        Code.REPLICA_NOT_AVAILABLE,
        Code.NETWORK_EXCEPTION,
        Code.KAFKA_STORAGE_ERROR,
        Code.FENCED_LEADER_EPOCH,
        Code.UNKNOWN_LEADER_EPOCH,
        Code.OFFSET_NOT_AVAILABLE,
        Code.UNKNOWN_TOPIC_ID,
        Code.INCONSISTENT_TOPIC_ID,
    }
)
"""The partition has, or will soon have, another leader: ask for metadata and try again."""

COORDINATOR_MOVED = frozenset(
    {Code.COORDINATOR_LOADING, Code.COORDINATOR_NOT_AVAILABLE, Code.NOT_COORDINATOR}
)
"""The coordinator has moved or is starting: look it up and try again."""

FENCED = frozenset(
    {
        Code.INVALID_PRODUCER_EPOCH,
        Code.PRODUCER_FENCED,
        Code.INVALID_PRODUCER_ID_MAPPING,
        Code.INVALID_TXN_STATE,
        Code.UNKNOWN_PRODUCER_ID,
    }
)
"""Another holder of the transactional id has ended this one's transaction, or its coordinator has."""

TOO_LARGE = frozenset({Code.MESSAGE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE})

TRY_AGAIN = LEADER_MOVED | {
    Code.REQUEST_TIMED_OUT,
    Code.NOT_ENOUGH_REPLICAS,
    Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
}
"""The same batch may be sent again: the broker knows the ones that it has."""

DENIED = frozenset(
    {
        Code.TOPIC_AUTHORIZATION_FAILED,
        Code.GROUP_AUTHORIZATION_FAILED,
        Code.CLUSTER_AUTHORIZATION_FAILED,
        Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
"""The user of this connection may not do this."""


def code_name(code: int) -> str:
    """Kafka's own name of an error code."""
    error = for_code(code)
    return f"{getattr(error, 'message', None) or error.__name__} ({code})"


def refusal(what: str, code: int, *, topic: str | None = None, partition: int | None = None) -> LogError:
    """The error for a code that trying again does not cure."""
    hint = "Grant this user the missing rights on the cluster." if code in DENIED else None
    return LogError(f"{what}: {code_name(code)}", hint=hint, topic=topic, partition=partition)


def write_error(who: str, place: TopicPartition, code: int) -> LogError:
    """What a code that trying again does not cure means for a unit of this writer."""
    topic, partition = place
    what = f"{who}: {code_name(code)}"
    if code in FENCED:
        return Fenced(what, topic=topic, partition=partition)
    if code in DENIED:
        return refusal("it cannot be written", code, topic=topic, partition=partition)
    if code in (Code.OUT_OF_ORDER_SEQUENCE, Code.DUPLICATE_SEQUENCE, Code.TRANSACTION_ABORTABLE):
        return Unavailable(what, topic=topic, partition=partition)
    return RecordRefused(what, topic=topic, partition=partition)
