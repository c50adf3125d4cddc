"""Every setting of a worker, in one frozen record that is read once and passed down."""

from typing import Literal

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings by name; each is `HEADRACE_<NAME>` in the environment and `<name>` in headrace.toml."""

    log: str = "embedded://.headrace/log.db"
    """Where facts live: `embedded://path/to/log.db`, `kafka://host:9092[,host:9092]`, `simulated://`."""
    data: str = ".headrace/data"
    """Folder of the table files."""
    http: str = "127.0.0.1:6066"
    """Address of the HTTP server; port 0 takes a free one."""
    advertise: str = ""
    """`host:port` at which other workers reach this one; empty: the address it listens at, with the
    host's name where that is every interface."""
    instance: str = ""
    """Unique name of this worker, to which it comes back after a restart within `session_timeout_s`
    without any other worker noticing; empty: host name and HTTP port, and its partitions go to the
    others as soon as it stops."""
    database: str = "sqlite://.headrace/database.db"
    """The shared database that is being left: `postgresql://user@host/name` or `sqlite://path/to/file.db`."""
    contract_only: bool = False
    """Whether the worker may open no connection to a database: it lives by its events and its HTTP."""
    store: Literal["rocksdb", "memory"] = "rocksdb"
    """Where committed rows are kept."""

    # HTTP
    insecure: bool = False
    """Serve an address other than loopback although no token is set."""
    tokens: tuple[str, ...] = ()
    """SHA-256 (hex) of each bearer token that may read; none: no authentication."""
    http_concurrency_max: int = 1_000
    """Connections and requests at once: a new connection takes the place of the one that has been without
    a request for longest; where all have one, it is answered with 503."""
    http_header_bytes_max: int = 32 * 1024
    """Largest headers of a request; larger: 431."""
    http_url_bytes_max: int = 8 * 1024
    """Longest path and query of a request; longer: 414."""
    http_body_bytes_max: int = 4 * 1024 * 1024
    """Largest body of a request; larger: 413."""
    http_head_timeout_s: float = 10.0
    """How long a connection may take to send the head of a request, and what is left of a body whose
    request is answered already; then it is closed."""
    http_body_timeout_s: float = 30.0
    """How long the body of a request may take; longer: 408."""
    http_send_timeout_s: float = 30.0
    """In this time a client reads 64 kB of its answer at least, or the rest of it; else it is cut off."""
    http_streams_max: int = 200
    """Open streams of rows and whiteboards together."""
    http_position_cookie: bool = False
    """Carry positions in a cookie, too, for browsers: what one has seen and sent it reads again."""
    read_wait_s: float = 2.0
    """How long a read waits for the position it asks for, unless it says `Prefer: wait=`."""
    read_wait_max_s: float = 30.0
    """Longest wait that a read is granted."""
    read_waiters_max: int = 800
    """Reads that may wait at once; more are answered with 503. Fewer than `http_concurrency_max` leave
    room for those that need not wait."""
    page_rows_max: int = 1_000
    """Most rows of one scan page."""
    page_rows_default: int = 100
    """Rows of one scan page unless the request says `limit=`."""

    http_tls_cert_file: str = ""
    """PEM file of the server's certificate with its chain: it then speaks HTTPS only; empty: plain HTTP."""
    http_tls_key_file: str = ""
    """PEM file of its key."""
    http_tls_key_password: str = ""
    """Password of that key."""

    # other workers of the app
    peer_secret: tuple[str, ...] = ()
    """What workers prove themselves to each other with, 16 characters or more, the same for all; of
    several the first one is used and each is accepted, so that it can be changed worker by worker."""
    peer_ca_file: str = ""
    """PEM file of who signs the workers' certificates, and nobody else's: workers then show theirs to
    each other (`http_tls_cert_file`), and trust nobody without one."""
    peer_tls_name: str = ""
    """Name that the certificate of every worker carries; empty: the host of its address."""
    peer_timeout_s: float = 5.0
    """Longest wait for another worker's answer, beyond what the request itself allows to wait."""
    peer_connect_timeout_s: float = 1.0
    """Longest wait for a connection to another worker, within `peer_timeout_s`."""
    peer_connections_max: int = 64
    """Connections to one other worker; further requests for it wait for a free one. Streams come on top."""
    peer_answer_bytes_max: int = 16 * 1024 * 1024
    """Largest answer of another worker that is passed on."""
    peer_request_headers: tuple[str, ...] = ()
    """Headers of requests that routes need beyond those of the reference; only these reach another worker."""
    peer_answer_headers: tuple[str, ...] = ()
    """Headers of answers that routes give beyond those of the reference; only these come back from there."""

    # unit of work
    unit_records_max: int = 20_000
    """Most events of one unit."""
    unit_bytes_max: int = 8 * 1024 * 1024
    """About how many bytes of events one unit takes at most."""
    unit_time_max_s: float = 0.5
    """After this long a unit takes no further event; a handler is never cut."""
    record_bytes_max: int = 1_000_000
    """Largest event that `send` accepts: key, value and headers."""
    cache_rows_max: int = 100_000
    """Decoded rows that one task keeps at hand."""
    reopen_backoff_s: float = 0.2
    """Wait before a failed task is taken over again; doubles up to `reopen_backoff_max_s`."""
    reopen_backoff_max_s: float = 5.0
    """Longest wait before a failed task is taken over again."""
    stop_timeout_s: float = 8.0
    """How long a stop may take before units in flight are dropped."""

    # topics
    replication_factor: int = -1
    """Replicas of the topics that are created; -1: the broker's default."""
    min_insync_replicas: int = -1
    """min.insync.replicas of the topics that are created; -1: the broker's default."""

    # Kafka
    transaction_timeout_s: float = 10.0
    """After this long the broker aborts a transaction whose worker is gone."""
    session_timeout_s: float = 10.0
    """After this long without a sign of life a worker loses its partitions."""
    request_timeout_s: float = 30.0
    """Longest wait for an answer of a broker."""
    kafka_tls: bool = False
    """Whether connections to the brokers are encrypted."""
    kafka_ca_file: str = ""
    """PEM file of who signs the brokers' certificates; empty: the system's own."""
    kafka_cert_file: str = ""
    """PEM file of the client's certificate, for brokers that ask for one."""
    kafka_key_file: str = ""
    """PEM file of its key."""
    kafka_key_password: str = ""
    """Password of that key."""
    kafka_sasl: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """SASL mechanism; empty: none."""
    kafka_username: str = ""
    """User name for SASL."""
    kafka_password: str = ""
    """Password for SASL."""

    # RocksDB
    rocksdb_cache_bytes: int = 256 * 1024 * 1024
    """Block cache that all partitions of the worker share."""
    rocksdb_write_buffer_bytes: int = 128 * 1024 * 1024
    """Write buffers of all partitions together."""

    # watchdogs
    loop_silence_max_s: float = 15.0
    """After this long without a turn of the loop the worker ends: a handler or a route holds it with a
    call that blocks; 0: never."""
    interpreter_silence_max_s: float = 120.0
    """After this long in which no thread of Python had a turn the worker ends, also one that was stopped for
    so long and goes on; 0: never."""
    broker_silence_max_s: float = 20.0
    """After this long without an answer of any broker the worker ends; 0: never."""
    membership_silence_max_s: float = 20.0
    """After this long without a sign of life of its place in the group the worker ends; not before two
    `session_timeout_s`; 0: never."""
    fetch_silence_max_s: float = 20.0
    """After this long in which a read that was to be answered was not the worker ends; 0: never."""
    handler_time_max_s: float = 0.0
    """An agent that has one event in its hand for longer is stuck, and the worker ends; 0: it may await as
    long as it likes."""
    watchdog_grace_s: float = 5.0
    """How long `/livez` tells why, before the worker ends."""

    log_format: Literal["text", "json"] = "text"
    """Log lines for people, or one JSON object per line."""


SECRETS = frozenset(
    {"database", "kafka_password", "kafka_key_password", "http_tls_key_password", "peer_secret", "tokens"}
)
"""Settings whose value is never shown."""
