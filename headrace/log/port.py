"""The log as everything above it sees it: topics, readers, transactional writers, membership.

Three implementations pass one contract suite (tests/contract/test_log.py): kafka, embedded, simulated.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

from headrace.events.envelope import Headers
from headrace.events.position import Catalog, TopicPartition

Outgoing = tuple[bytes | None, bytes | None, Headers, int]
"""A record to append: key, value (None: a tombstone), headers, timestamp in ms since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as the app wants it to be."""

    name: str
    partitions: int | None = None
    """None: as many as it has; it must exist then."""
    is_compacted: bool = False
    retention_ms: int | None = None
    """None: the log's default; -1: for ever."""
    compaction_lag_ms: int = 0
    """How long a record stays whole before compaction may remove it (min.compaction.lag.ms)."""
    delete_retention_ms: int | None = None
    """How long a compacted topic keeps tombstones, at least (delete.retention.ms); None: its default."""
    record_bytes_max: int | None = None
    """None: the log's default (max.message.bytes)."""


class TopicInfo(NamedTuple):
    """A topic as it is."""

    name: str
    topic_id: str
    """Given at creation; a recreated topic has another one."""
    partitions: int


class OffsetRange(NamedTuple):
    """What a partition holds: records from `start` up to before `end`."""

    start: int
    end: int
    """High watermark: the next offset to be written; open transactions included."""
    stable: int
    """Last stable offset: where the first transaction begins that is still open, else the end."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of records of one partition, by columns, in offset order.

    A chunk without records says that the position advanced over control records, aborted data or
    compacted gaps.
    """

    topic: str
    partition: int
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]
    offset_next: int
    """Where reading goes on; beyond the last record where gaps follow it."""
    high_watermark: int
    """The partition's end when this was fetched."""

    def __len__(self) -> int:
        return len(self.offsets)

    def head(self, stop: int) -> "Chunk":
        """The same run up to before record `stop`, which must be there."""
        return Chunk(
            self.topic,
            self.partition,
            self.offsets[:stop],
            self.timestamps_ms[:stop],
            self.keys[:stop],
            self.values[:stop],
            self.headers[:stop],
            self.offsets[stop],
            self.high_watermark,
        )

    def tail(self, start: int) -> "Chunk":
        """The same run without its first `start` records."""
        return Chunk(
            self.topic,
            self.partition,
            self.offsets[start:],
            self.timestamps_ms[start:],
            self.keys[start:],
            self.values[start:],
            self.headers[start:],
            self.offset_next,
            self.high_watermark,
        )


class Reader(Protocol):
    """Committed records of some partitions in offset order, from given positions; no consumer group."""

    async def fetch(self, *, records_max: int, bytes_max: int) -> Sequence[Chunk]:
        """What has arrived since the last fetch: at least one chunk, waiting for it if need be.

        At most one chunk per partition, `records_max` records and about `bytes_max` bytes in all
        (but always one record). The reader goes on reading ahead while the caller works.
        Cancel: nothing is lost, the next fetch returns it. Raises: OffsetOutOfRange,
        TopicMismatch, and Unavailable once the log has not answered for long.
        """

    def pause(self, places: Collection[TopicPartition]) -> None:
        """Give out nothing of these partitions, and read no more of them, until they are left out again.

        What was read ahead of them stays; the other partitions have all the room there is.
        """

    async def close(self) -> None:
        """Stop reading ahead. Never raises for a log that is gone."""


class Append(NamedTuple):
    """Records for one partition, in order."""

    topic: str
    partition: int
    records: Sequence[Outgoing]


class Closing(NamedTuple):
    """Last records of a transaction, which tell where the others lie: they are made once that is known."""

    topic: str
    partition: int
    """A partition that the other records of the transaction do not touch."""
    records: Callable[[Mapping[TopicPartition, int]], Sequence[Outgoing]]
    """Called once, with the offset behind each partition's last record: quick, and fit for any thread."""


class Writer(Protocol):
    """The only valid holder of one transactional id; its commits are atomic over all partitions."""

    async def commit(
        self, appends: Sequence[Append], closing: Closing | None = None
    ) -> Mapping[TopicPartition, int]:
        """Append all of it in one transaction; the result is the offset after each partition's last record.

        Order: every record is acknowledged before the transaction is ended; when this returns all
        of it is durable and visible to committed readers. Cancel: the outcome is unknown, the
        writer is of no further use. Raises: Fenced, CommitUnknown, RecordRefused, RecordTooLarge,
        Unavailable; after any of them only `close` may be called.
        """

    async def close(self) -> None:
        """Give up connections; the transactional id stays fenced only by the next `Log.writer`."""


class Assignment(NamedTuple):
    """The tasks of this member in one generation of the group."""

    generation: int
    partitions: Mapping[str, frozenset[int]]
    """Name given at `join` to the partitions that this member owns; every name is there."""
    owners: Mapping[str, Mapping[int, str]] = MappingProxyType({})
    """Name to partition to the instance that owns it, over all members of this generation."""


class Membership(Protocol):
    """This worker's place among the workers of its app; kept alive in the background."""

    async def next(self, after: int) -> Assignment:
        """The first assignment with a generation above `after` (-1: any), waiting for it.

        Raises: Unavailable, and whatever made membership end (never a silent end).
        """

    async def confirm(self) -> Assignment:
        """The assignment as the group itself confirms it now, waiting out a rebalance."""

    async def close(self) -> None:
        """Leave (unless membership is static) and stop."""


class Log(Protocol):
    """Where facts live."""

    async def open(self) -> None:
        """Connect. Raises: Unavailable, AlreadyRunning."""

    async def close(self) -> None:
        """Close what is left open. Readers, writers and memberships are closed before."""

    @property
    def cluster_id(self) -> str:
        """Identity of the log itself; known after `open`."""

    async def provision(self, specs: Sequence[TopicSpec]) -> Mapping[str, TopicInfo]:
        """Create the topics that are missing and verify the others.

        Raises: TopicMismatch when a topic has another number of partitions than asked, or is
        missing and no number was given; a log's own refusal (authorisation, policy) as LogError.
        """

    async def describe(self, names: Sequence[str]) -> Mapping[str, TopicInfo]:
        """The topics that exist among these; the others are left out."""

    async def record_limits(self, names: Sequence[str]) -> Mapping[str, int]:
        """The largest record that each of these takes, in bytes; one that may not be asked is left out."""

    async def topics(self) -> Sequence[TopicInfo]:
        """Every topic, in name order, internal ones left out."""

    async def offsets(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, OffsetRange]:
        """What these partitions hold now. Raises: TopicMismatch for one that does not exist."""

    async def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """A reader that starts at these offsets (`read_committed`, never reset silently)."""

    async def writer(self, transactional_id: str) -> Writer:
        """A writer under this id.

        Order: when this returns every older writer of the id is fenced and its pending
        transaction is finished: what a reader then finds up to the end is all there will be.
        """

    async def join(self, member: "Member") -> Membership:
        """Become a worker of the app. Raises: AlreadyRunning where only one worker is possible."""

    async def workers(self, app: str) -> Sequence[str]:
        """The workers of an app that run now, as far as its group knows, by names that lead to them."""

    async def record_lag(self, app: str, positions: Mapping[TopicPartition, int]) -> None:
        """Leave positions where lag tools look; correctness never reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What a worker says of itself when it joins."""

    app: str
    instance: str
    """Unique per worker and stable over restarts."""
    partitions: Mapping[str, int]
    """Task groups by the name of their changelog topic, and how many partitions each has."""
    is_static: bool = False
    """Whether it comes back under its name: it then does not leave at `close`, and a restart within
    the session time-out changes nothing for the others."""
    held: Callable[[], Mapping[str, Mapping[int, int]]] = dict
    """Partitions whose store it has on disk now, and when each was last written (ms since the epoch)."""


def catalog(log: Log, infos: Mapping[str, TopicInfo]) -> Catalog:
    """Identity of a log and of some of its topics."""
    return Catalog(log.cluster_id, {name: info.topic_id for name, info in infos.items()})
