"""What code of the app does outside of agents, in routes, timers and tasks: read, send, and wait."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from headrace.errors import NotOwner, OutsideAgent, Unavailable
from headrace.events.position import Catalog, Position
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.events.token import Token
from headrace.flow.group import Group
from headrace.flow.outgate import DirectSender, Gate, Outgate, SendScope
from headrace.flow.sending import active_sender
from headrace.flow.witness import Witness
from headrace.http.consistency import Asked, asked_in_hand
from headrace.http.waiting import Waits
from headrace.settings import Settings
from headrace.tables.table import Table, committed_rows
from headrace.tables.view import PartitionView

ViewOf = Callable[[str, int], PartitionView | None]


class Outside:
    """Notes what a request, tick or task has seen, so that what it sends says so."""

    def __init__(self, settings: Settings, view: ViewOf, waits: Waits) -> None:
        self.groups: Mapping[str, Group] = {}
        self.catalog = Catalog("", {})
        self.gate: Outgate | None = None
        """None while nothing can be sent yet."""
        self._settings = settings
        self._view = view
        self._waits = waits
        self._seen_in: dict[tuple[str, int], tuple[Position, Seen, Seen]] = {}
        """By partition: position, what was seen beyond it, and both as one."""

    # --- read

    def committed(self, table: Table[Any, Any], key: Any) -> bytes | None:
        """The committed row bytes of a key. Raises: StillRecovering, NotOwner."""
        return self._read(self._view_of(table, key), table, key)

    def _view_of(self, table: Table[Any, Any], key: Any) -> PartitionView:
        group = self.groups[table.group]
        partition = group.partitioner.place(table.keys.to_wire(key), group.partitions)
        view = self._view(group.name, partition)
        if view is None:
            raise NotOwner(f"partition {partition} of table {table.name} is not served by this worker")
        return view

    @staticmethod
    def _read(view: PartitionView, table: Table[Any, Any], key: Any) -> bytes | None:
        return view.get(table.row_prefix + table.keys.to_store(key))

    def witnessed(self, table: Table[Any, Any], key: Any, witness: Witness) -> bytes | None:
        """The same, by somebody who has then seen what the row contains. Raises: as `committed`."""
        view = self._view_of(table, key)
        # In one turn of the loop: what is noted is what the row contains.
        row = self._read(view, table, key)
        witness.saw(self._contained(view))
        return row

    def _contained(self, view: PartitionView) -> Seen:
        place = view.group, view.partition
        known = self._seen_in.get(place)
        if known is None or known[0] is not view.position or known[1] is not view.seen:
            merged = self.catalog.seen(view.position).merge(view.seen)
            known = self._seen_in[place] = (view.position, view.seen, merged)
        return known[2]

    # --- send

    @asynccontextmanager
    async def sending(self, gate: Gate | None = None, seen: Seen = NOTHING_SEEN) -> AsyncIterator[SendScope]:
        """A scope whose events are one transaction, committed when the block ends without an error.

        They go through `gate`, or else through the worker's own writer, and are stamped with `seen`,
        with what a scope around this one has seen, and with what is read meanwhile.
        """
        if self.gate is None:
            raise Unavailable("the worker is starting and sends nothing yet", hint="Try again shortly.")
        around = active_sender.get(None)
        witness = Witness(seen)
        if isinstance(around, SendScope | DirectSender):
            witness.saw(around.witness.seen)
        token = committed_rows.set(_Rows(self, witness))
        try:
            async with self.gate.sending(gate, witness) as scope:
                yield scope
        finally:
            committed_rows.reset(token)
        self._waits.note(scope.position)
        if isinstance(around, SendScope | DirectSender):
            around.witness.saw(witness.seen.merge(self.catalog.seen(scope.position)))

    @contextmanager
    def direct(self) -> Iterator[None]:
        """A context in which every event is a transaction of its own."""
        if self.gate is None:
            raise OutsideAgent("the worker is starting and sends nothing yet")
        direct = DirectSender(self.gate)
        rows = committed_rows.set(_Rows(self, direct.witness))
        sender = active_sender.set(direct)
        try:
            yield
        finally:
            active_sender.reset(sender)
            committed_rows.reset(rows)

    # --- wait

    async def reached(self, table: Table[Any, Any], key: Any) -> Sequence[str]:
        """Return when the row of a key contains what the caller has seen; what cannot be proven of it.

        Raises: as `Waits.reach`; NotOwner; OutsideAgent in agents, which would wait for themselves.
        """
        sender = active_sender.get(None)
        if not isinstance(sender, SendScope | DirectSender):
            raise OutsideAgent(
                "only a route, timer or task waits for a position",
                hint="An agent's event is held back by itself until the task has come as far.",
            )
        view = self._view_of(table, key)
        asked = asked_in_hand.get(None) or Asked(wait_s=self._settings.read_wait_s)
        # Of what was brought along all counts, also what could not be verified for a stamp.
        brought = NOTHING_SEEN if asked.token is None else asked.token.seen
        token = Token.of(Position(), self.catalog, brought.merge(sender.witness.seen))
        if not asked.is_eventual:
            await self._waits.reach(asked.for_token(token), (view,))
        return self._waits.unproven(token, (view,))


class _Rows:
    """Committed rows, as one request, tick or task reads them."""

    def __init__(self, outside: Outside, witness: Witness) -> None:
        self._outside = outside
        self._witness = witness

    def committed(self, table: Table[Any, Any], key: Any) -> bytes | None:
        """The committed row bytes. Raises: StillRecovering, NotOwner."""
        return self._outside.witnessed(table, key, self._witness)
