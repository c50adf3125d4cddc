"""What the HTTP layer asks of a running worker."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.events.key import KeyCodec
from headrace.events.partitioner import Partitioner
from headrace.events.position import Catalog, Position
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.flow.members import Peer
from headrace.flow.outgate import Gate
from headrace.flow.requests.reception import Reception
from headrace.flow.teller import Teller
from headrace.http.metric import Samples
from headrace.http.waiting import Waits
from headrace.http.whiteboard.board import Board, ShadowCard
from headrace.settings import Settings
from headrace.tables.view import PartitionView
from headrace.vitals import Trouble

ROUTE = "headrace.route"
"""Where the path template of a request is left in its ASGI scope."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Requests of these methods do no harm when they are repeated: an Idempotency-Key means nothing there."""

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTable:
    """A table that may be read, and where."""

    path: str
    """Such as `/balances`; rows are at `/balances/{key}`."""
    name: str
    group: str
    keys: KeyCodec[Any]
    partitioner: Partitioner
    partitions: int
    row_prefix: bytes
    """What a store key of this table begins with: the table's name and a zero byte."""
    renewed: Callable[[bytes], bytes] | None = None
    """Gives a stored row the shape of the value type; None where rows are read as they are stored."""
    key_type: Any = str
    value_type: Any = msgspec.Raw
    """What the rows are; for the description of the API."""
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRoute:
    """An endpoint of the app's own."""

    path: str
    endpoint: Endpoint
    methods: tuple[str, ...]

    @property
    def may_write(self) -> bool:
        """Whether it answers requests that are not to be handled twice."""
        return not SAFE_METHODS.issuperset(self.methods)


class WorkerState(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Sent(Protocol):
    """What one request sent, once its transaction is committed."""

    @property
    def position(self) -> Position:
        """Next offsets behind what was sent; empty when nothing was."""

    @property
    def seen(self) -> Seen:
        """What it has brought along and read."""


class Shadowing(Protocol):
    """Looks at reads of one table as they are answered, and asks another source the same."""

    def served(self, view: PartitionView, store_key: bytes, row: bytes | None) -> None:
        """A read is answered with this row, in this turn of the loop. Quick, and raises nothing."""

    def card(self, shown_max: int = ...) -> ShadowCard:
        """What was found so far, with the newest differences."""


class ReadSource(Protocol):
    """A running worker as its HTTP server sees it. All of it is safe to call at any time of its life."""

    @property
    def app_id(self) -> str: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def state(self) -> WorkerState: ...
    @property
    def trouble(self) -> Trouble | None:
        """Why this worker is not alive any more; None while it is."""

    @property
    def catalog(self) -> Catalog: ...
    @property
    def served_tables(self) -> Sequence[ServedTable]: ...
    @property
    def shadows(self) -> Mapping[str, Shadowing]:
        """What looks at the reads of a table, by its name."""

    @property
    def user_routes(self) -> Sequence[UserRoute]: ...
    @property
    def reception(self) -> Reception | None:
        """Takes requests with an Idempotency-Key; None while it does not yet."""

    @property
    def instance(self) -> str:
        """The name under which this worker is in its group; final once it has joined."""

    @property
    def reached_at(self) -> str:
        """`host:port` at which it says that other workers reach it; empty before it listens."""

    def peer(self, group: str, partition: int) -> Peer | None:
        """The worker that owns a partition in the current generation; None when nobody does."""

    @property
    def waits(self) -> Waits:
        """Who waits for a position, and what of it can be judged."""

    def view(self, group: str, partition: int) -> PartitionView | None:
        """The partition as this worker has it: owned, or followed if it is global; None when neither."""

    def followed(self) -> Sequence[PartitionView]:
        """Every partition of the global tables, which each worker has."""

    def views(self) -> Sequence[PartitionView]:
        """Every partition this worker owns, by group and partition."""

    def sending(
        self, gate: Gate | None = None, seen: Seen = NOTHING_SEEN
    ) -> AbstractAsyncContextManager[Sent]:
        """A scope in which `send` collects into one transaction, committed at its end through `gate`.

        What it sends says that its sender has seen as much, and what is read in it.
        """

    @property
    def teller(self) -> Teller | None:
        """Tells what made a row, and what happened to a key; None until the log is open."""

    def board(self) -> Board:
        """What the whiteboard shows, as of now."""

    def figures(self) -> Samples:
        """What the run tells of itself, for /metrics."""
