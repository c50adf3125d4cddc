"""Every metric that a worker shows: its name, kind, unit, labels and meaning; the page and its reference."""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from headrace.histogram import Histogram


class Kind(Enum):
    """How Prometheus reads a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """One metric as it is declared."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    sentence: str


class Sample(NamedTuple):
    """One metric's value for one set of labels."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Histogram


Samples = Iterable[Sample]

_AGENT = ("group", "agent")
_PARTITION = ("group", "partition")

# --- what the tasks do

EVENTS = Metric(
    "headrace_events_total",
    Kind.COUNTER,
    "events",
    _AGENT,
    "Events that the agent finished, in committed units.",
)
EVENTS_SENT = Metric(
    "headrace_events_sent_total",
    Kind.COUNTER,
    "events",
    _AGENT,
    "Events that the agent sent, in committed units.",
)
DEAD_LETTERS = Metric(
    "headrace_dead_letters_total",
    Kind.COUNTER,
    "events",
    _AGENT,
    "Events in the dead-letter topic that the agent refused, or that could not be read for it.",
)
RETRIES = Metric(
    "headrace_retries_total",
    Kind.COUNTER,
    "attempts",
    _AGENT,
    "Further attempts at an event under a Retry policy.",
)
UNITS = Metric("headrace_units_total", Kind.COUNTER, "units", (), "Units of work that were committed.")
ROWS_WRITTEN = Metric(
    "headrace_rows_written_total", Kind.COUNTER, "rows", (), "Table rows in committed units."
)
COMMIT = Metric(
    "headrace_commit_seconds",
    Kind.HISTOGRAM,
    "seconds",
    (),
    "Time from a sealed unit to its acknowledged commit.",
)
TAKEOVERS = Metric(
    "headrace_takeovers_total",
    Kind.COUNTER,
    "takeovers",
    (),
    "Partitions taken over: at start, by assignment, after a failure.",
)
TASK_FAILURES = Metric(
    "headrace_task_failures_total",
    Kind.COUNTER,
    "failures",
    ("error",),
    "Tasks that failed, by the name of the error.",
)
REBALANCES = Metric(
    "headrace_rebalances_total",
    Kind.COUNTER,
    "generations",
    (),
    "Assignments this worker got from its group, the first included.",
)

# --- where the partitions are

PARTITIONS = Metric(
    "headrace_partitions",
    Kind.GAUGE,
    "partitions",
    ("group", "state"),
    "Partitions that this worker owns, by state; every state is there.",
)
LAG = Metric(
    "headrace_lag_offsets",
    Kind.GAUGE,
    "offsets",
    ("group", "topic", "partition"),
    "End of the input as last fetched minus the position of the rows; absent until something is read.",
)
HELD = Metric(
    "headrace_held_inputs",
    Kind.GAUGE,
    "inputs",
    ("group", "topic", "partition"),
    "1 while the input's next event waits for what its sender had seen, else 0; absent until one is read.",
)
HELD_SECONDS = Metric(
    "headrace_held_seconds",
    Kind.GAUGE,
    "seconds",
    ("group", "topic", "partition"),
    "For how long it waits; 0 while it does not.",
)
RESTORED = Metric(
    "headrace_restored_ratio",
    Kind.GAUGE,
    "ratio",
    _PARTITION,
    "How much of its changelog a partition that is being restored has read; absent once it is served.",
)
RESTORE_LEFT = Metric(
    "headrace_restore_remaining_offsets",
    Kind.GAUGE,
    "offsets",
    _PARTITION,
    "Changelog offsets that a partition that is being restored still has to read; absent once it is served.",
)
FOLLOWED_PARTITIONS = Metric(
    "headrace_followed_partitions",
    Kind.GAUGE,
    "partitions",
    ("group", "state"),
    "Partitions of global tables that this worker follows, by state; every state is there.",
)
FOLLOWED_BEHIND = Metric(
    "headrace_followed_behind_offsets",
    Kind.GAUGE,
    "offsets",
    _PARTITION,
    "End of the changelog of a global table as last read minus what readers here have of it.",
)
STORE_BYTES = Metric(
    "headrace_store_bytes",
    Kind.GAUGE,
    "bytes",
    _PARTITION,
    "About how much the rows of a served partition take.",
)
STORE_ROWS = Metric(
    "headrace_store_rows",
    Kind.GAUGE,
    "rows",
    _PARTITION,
    "About how many rows a served partition has; RocksDB counts overwritten ones until compaction.",
)

# --- what is sent outside of agents

SENDINGS = Metric(
    "headrace_outgate_transactions_total",
    Kind.COUNTER,
    "transactions",
    (),
    "Transactions with what requests, timers, tasks and commands sent.",
)
SENDING_EVENTS = Metric(
    "headrace_outgate_events_total", Kind.COUNTER, "events", (), "Events in these transactions."
)
SENDING_COMMIT = Metric(
    "headrace_outgate_commit_seconds",
    Kind.HISTOGRAM,
    "seconds",
    (),
    "Time that these transactions took to commit.",
)

REQUESTS_RECORDED = Metric(
    "headrace_requests_recorded_total",
    Kind.COUNTER,
    "requests",
    (),
    "Requests with an Idempotency-Key whose answer was recorded together with what they sent.",
)
REQUESTS_REPEATED = Metric(
    "headrace_requests_repeated_total",
    Kind.COUNTER,
    "requests",
    (),
    "Requests that were answered by the recorded answer of an earlier one with the same key.",
)
REQUESTS_REFUSED = Metric(
    "headrace_requests_refused_total",
    Kind.COUNTER,
    "requests",
    (),
    "Requests whose Idempotency-Key was malformed, or was used for another request before.",
)

# --- HTTP

REQUESTS = Metric(
    "headrace_http_requests_total",
    Kind.COUNTER,
    "requests",
    ("status",),
    "HTTP answers of every kind, by status.",
)
REQUEST_TIME = Metric(
    "headrace_http_request_seconds",
    Kind.HISTOGRAM,
    "seconds",
    (),
    "Time from request to answer, of every kind.",
)
READS = Metric(
    "headrace_reads_total",
    Kind.COUNTER,
    "requests",
    ("table", "read", "status"),
    "Reads of served tables; read is key or scan.",
)
READ_TIME = Metric(
    "headrace_read_seconds", Kind.HISTOGRAM, "seconds", ("table", "read"), "Time that these reads took."
)
READS_WAITING = Metric(
    "headrace_reads_waiting", Kind.GAUGE, "requests", (), "Requests that wait for a position."
)
HOP_TIME = Metric(
    "headrace_hop_seconds",
    Kind.HISTOGRAM,
    "seconds",
    ("kind",),
    "Time that other workers took to answer what this one asked them; kind is read, scan, stream or request.",
)
HOP_FAILURES = Metric(
    "headrace_hop_failures_total",
    Kind.COUNTER,
    "requests",
    ("kind", "error"),
    "Requests that another worker owns and did not answer, by the name of the error.",
)

# --- what is compared with the database that is being left

SHADOW_READS = Metric(
    "headrace_shadow_reads_total",
    Kind.COUNTER,
    "reads",
    ("table", "result"),
    "Reads that were sampled to ask the old database the same; result is agreed, differing, dropped, "
    "undecided or failed.",
)
SHADOW_WAITING = Metric(
    "headrace_shadow_waiting",
    Kind.GAUGE,
    "reads",
    ("table",),
    "Sampled reads whose comparison is not done yet.",
)
STATEMENTS = Metric(
    "headrace_database_statements_total",
    Kind.COUNTER,
    "statements",
    (),
    "SQL statements that this process sent to databases; rows that went as one batch count once.",
)

WORKER = Metric(
    "headrace_worker",
    Kind.GAUGE,
    "",
    ("app", "instance", "state", "version"),
    "Always 1; who this worker is and where it is in its life.",
)

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""Every metric, in order of declaration."""
