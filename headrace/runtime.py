"""Everything that belongs to one run of an app: log, stores, tasks, HTTP; the app itself holds none of it."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING, Any

from headrace.bridge.contractonly import enforce
from headrace.bridge.shadow.comparing import ShadowRun
from headrace.bridge.tally import PROCESS
from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.declarations import Declarations
from headrace.events.position import Catalog
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.figures import run_samples
from headrace.flow.crew import Crew
from headrace.flow.figures import FlowFigures
from headrace.flow.followers import Follower
from headrace.flow.group import Group
from headrace.flow.lag import record_lag
from headrace.flow.members import Members, Peer
from headrace.flow.outgate import Gate, Outgate, SendScope
from headrace.flow.post import Post
from headrace.flow.requests.answer import RequestGroup
from headrace.flow.requests.reception import Reception
from headrace.flow.teller import Teller
from headrace.flow.tracing import find_spans
from headrace.flow.worksite import Worksite
from headrace.http.address import advertised_address
from headrace.http.metric import Samples
from headrace.http.server import HttpServer
from headrace.http.source import ServedTable, UserRoute, WorkerState
from headrace.http.waiting import Waits
from headrace.http.whiteboard.board import Board
from headrace.http.whiteboard.survey import Survey
from headrace.log.connect import connect
from headrace.log.inquiry import Inquiry
from headrace.log.port import Log, Member, Membership, TopicInfo
from headrace.opening import ask_patiently
from headrace.outside import Outside
from headrace.provisioning import provision_run
from headrace.settings import Settings
from headrace.tables.engines import open_engine, store_folder
from headrace.tables.globalview import GlobalView
from headrace.tables.store import StoreEngine
from headrace.tables.table import Table
from headrace.tables.view import PartitionView, ViewState
from headrace.vitals import Kind, Trouble, Vitals

if TYPE_CHECKING:
    from headrace.flow.spans import Spans

logger = logging.getLogger(__name__)

_VERSION = version("headrace")
_RETRACT_PATIENCE_S = 1.0


class Runtime:
    """One run of an app, from `run` to `stop`; a process may have several, one after the other."""

    def __init__(
        self,
        declarations: Declarations,
        settings: Settings,
        *,
        log: Log | None = None,
        engine: StoreEngine | None = None,
        clock: Clock = SYSTEM_CLOCK,
        spans: "Spans | None" = None,
        http: HttpServer | None = None,
    ) -> None:
        self.declarations = declarations
        self.settings = settings
        self.state = WorkerState.STARTING
        self.listening = asyncio.Event()
        """Set once its HTTP server answers."""
        self.ready = asyncio.Event()
        """Set once every partition that was assigned first is served."""
        self.instance = settings.instance
        self.figures_of_flow = FlowFigures()
        self.vitals = Vitals()
        self._log = log or connect(settings, self.vitals)
        self._engine = engine
        self._clock = clock
        self._spans = spans or find_spans("kafka" if settings.log.startswith("kafka:") else "headrace")
        self._inquiry = Inquiry(self._log, clock)
        self.waits = Waits(self._inquiry, settings, clock)
        """Who waits for a position, and what of it can be judged."""
        self._outside = Outside(settings, self.view, self.waits)
        self._http = http or HttpServer(self, spans=self._spans)
        self._topics: Mapping[str, TopicInfo] = {}
        self._groups: Mapping[str, Group] = {}
        self._dead_letter_bytes_max: int | None = None
        self._served: Sequence[ServedTable] = ()
        self.shadows: Mapping[str, ShadowRun] = {}
        """What looks at the reads of a table, by its name."""
        self._survey: Survey | None = None
        self._crew: Crew | None = None
        self._members = Members(declarations.app_id, self._log, clock, retry_s=settings.reopen_backoff_max_s)
        self._outgate: Outgate | None = None
        self.reception: Reception | None = None
        """Takes requests with an Idempotency-Key; None: it does not yet, or no route is to write."""
        self._requests: RequestGroup | None = None
        self._stopping = asyncio.Event()
        self._catalog = Catalog("", {})
        self.teller: Teller | None = None
        """Tells what made a row; None until the log is open."""
        self._globals: Mapping[str, GlobalView] = {}

    # --- life

    def stop(self) -> None:
        """Refuse requests, finish and commit the units in hand, close; `run` then returns."""
        self.state = WorkerState.STOPPING
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`.

        Order of a stop: HTTP refuses and drains; tasks finish their unit, commit and close; the
        worker's own writer, membership, stores and log follow. Raises: the first error of a part
        that cannot go on, after everything is closed.
        """
        if self.settings.contract_only:
            enforce(self.settings, self.declarations.bridged)
        try:
            await ask_patiently(self._log.open, self._stopping, self.settings, self._clock)
            await self._provision()
            # Reads, probes and progress answer from here on, while the tables are being restored.
            await self._http.start()
            self.listening.set()
            try:
                self.instance = self.settings.instance or f"{socket.gethostname()}-{self._http.address[1]}"
                await self._run_with_log()
            finally:
                await self._http.stop(timeout_s=1.0)
        finally:
            await self._inquiry.close()
            await self._log.close()

    async def _run_with_log(self) -> None:
        app = self.declarations.app_id
        engine = self._engine or open_engine(self.settings, store_folder(self.settings, app, self.instance))
        try:
            shared: list[Group | RequestGroup | Post] = [*self._groups.values(), *self.declarations.posts]
            if self._requests is not None:
                shared.append(self._requests)
            member = Member(
                app=app,
                instance=self.instance,
                partitions={group.changelog: group.partitions for group in shared},
                is_static=bool(self.settings.instance),
                held=lambda: {group.changelog: engine.held(group.name) for group in shared},
            )
            membership = await self._log.join(member)
            try:
                await self._run_tasks(engine, membership)
            finally:
                await membership.close()
            if not member.is_static:
                await self._members.retract_within(_RETRACT_PATIENCE_S, self.instance)
        finally:
            engine.close()

    async def _provision(self) -> None:
        log, settings, declared = self._log, self.settings, self.declarations
        # Once more from the beginning is once: what was created is there by then.
        found = await ask_patiently(
            lambda: provision_run(log, settings, declared), self._stopping, settings, self._clock
        )
        self._topics, self._groups, self._catalog = found.topics, found.groups, found.catalog
        self._inquiry.know(found.topics.values())
        self._outside.groups, self._outside.catalog = found.groups, found.catalog
        self._served, self._survey, self._requests = found.served, found.survey, found.requests
        self._globals = {
            name: self._view_of(group) for name, group in found.groups.items() if group.is_global
        }
        self._dead_letter_bytes_max = found.dead_letter_bytes_max
        self.shadows = {
            name: shadow.of_run(
                self.app_id,
                self.settings,
                log=self._log,
                groups=found.groups,
                topic_ids=found.catalog.topic_ids,
                clock=self._clock,
            )
            for name, shadow in self.declarations.shadows.items()
        }
        self.teller = Teller(
            self._log,
            groups=found.groups,
            tables=self.declarations.tables,
            topics=list(self.declarations.topics.values()),
            infos=found.topics,
            followed=list(self._globals.values()),
            clock=self._clock,
        )

    async def _run_tasks(self, engine: StoreEngine, membership: Membership) -> None:
        site = Worksite(
            app=self.declarations.app_id,
            log=self._log,
            engine=engine,
            settings=self.settings,
            topics=self._topics,
            figures=self.figures_of_flow,
            clock=self._clock,
            spans=self._spans,
            dead_letter_bytes_max=self._dead_letter_bytes_max,
            vitals=self.vitals,
            globals=self.global_views(),
        )
        self._outgate = self._outside.gate = Outgate(
            site.app,
            self.instance,
            self._log,
            self._topics,
            record_bytes_max=self.settings.record_bytes_max,
            spans=self._spans,
        )
        async with asyncio.TaskGroup() as tasks:
            if self._requests is not None:
                self.reception = Reception(self._requests, self._outgate, self.figures_of_flow.requests)
            posts = self.declarations.posts
            crew = self._crew = Crew(site, self._groups, membership, tasks, self.reception, posts)
            side = [
                tasks.create_task(self._members.run(), name="members"),
                tasks.create_task(
                    self._members.announce(self.instance, self.reached_at), name="announcement"
                ),
                tasks.create_task(self._outgate.run(), name="outgate"),
                tasks.create_task(self._http.wait_failed(), name="http watch"),
                tasks.create_task(record_lag(self._log, site.app, self.views, self._clock), name="lag marks"),
                tasks.create_task(self._become_ready(crew), name="readiness"),
            ]
            for name, shadow in self.shadows.items():
                side.append(tasks.create_task(shadow.run(), name=f"shadow of {name}"))
            for name, followed in self._globals.items():
                follower = Follower(site, self._groups[name], followed)
                side.append(tasks.create_task(follower.run(), name=f"follower of {name}"))
            follow = tasks.create_task(crew.follow(), name="assignments")
            following = self.vitals.must_run(follow, Kind.MEMBERSHIP)
            await self._stopping.wait()
            self.vitals.remove(following)
            follow.cancel()
            await self._http.stop(timeout_s=self.settings.stop_timeout_s / 2)
            await crew.stop()
            for task in side:
                task.cancel()

    async def _become_ready(self, crew: Crew) -> None:
        await crew.until_served()
        for followed in self._globals.values():
            await followed.until_served()
        if self.state is WorkerState.STARTING:
            self.state = WorkerState.RUNNING
            served = sum(view.state is ViewState.SERVING for view in crew.views())
            logger.info("Ready: %s of %s partitions are served", served, len(crew.views()))
        self.ready.set()

    # --- what HTTP and the app ask (http.source.ReadSource)

    @property
    def app_id(self) -> str:
        """The app's id."""
        return self.declarations.app_id

    @property
    def address(self) -> tuple[str, int]:
        """Where the HTTP server listens."""
        return self._http.address

    @property
    def trouble(self) -> Trouble | None:
        """Why this worker is not alive any more; None while it is."""
        return self.vitals.trouble

    @property
    def reached_at(self) -> str:
        """Where other workers reach this one; empty before it listens. Raises: SettingsError."""
        return advertised_address(self.settings, self.address) if self.address[1] else ""

    @property
    def catalog(self) -> Catalog:
        """Identity of the log and of the app's topics; empty until the log is open."""
        return self._catalog

    @property
    def served_tables(self) -> Sequence[ServedTable]:
        """The tables that may be read; empty until the log is open."""
        return self._served

    @property
    def user_routes(self) -> Sequence[UserRoute]:
        """The app's own endpoints."""
        return self.declarations.routes

    def view(self, group: str, partition: int) -> PartitionView | None:
        """The partition as this worker has it: owned, or followed if it is global; None when neither."""
        if group in self._globals:
            return self._globals[group].partitions[partition]
        return self._crew.view(group, partition) if self._crew is not None else None

    def views(self) -> Sequence[PartitionView]:
        """Every partition this worker owns, by group and partition."""
        return self._crew.views() if self._crew is not None else []

    def _view_of(self, group: Group) -> GlobalView:
        return GlobalView(group.name, group.inputs, group.partitions, group.partitioner)

    def _shown(self, group: str, partition: int) -> PartitionView | None:
        """What the whiteboard shows of a partition: its task if that is here, else what is followed."""
        owned = self._crew.view(group, partition) if self._crew is not None else None
        return owned or self.view(group, partition)

    def desks(self) -> Sequence[PartitionView]:
        """Every partition of recorded requests that this worker owns."""
        return self._crew.desks() if self._crew is not None else []

    def followed(self) -> Sequence[PartitionView]:
        """Every partition of the global tables, which each worker has."""
        return [view for followed in self._globals.values() for view in followed.partitions]

    def global_views(self) -> Sequence[GlobalView]:
        """The global tables, which each worker has all of; empty until the log is open."""
        return list(self._globals.values())

    def peer(self, group: str, partition: int) -> Peer | None:
        """The worker that owns a partition in the current generation; None when nobody does."""
        instance = self._crew.owner(group, partition) if self._crew is not None else None
        if instance is None:
            return None
        return Peer(instance, self._members.addresses.get(instance), instance == self.instance)

    def committed(self, table: Table[Any, Any], key: Any) -> bytes | None:
        """The committed row bytes of a key. Raises: StillRecovering, NotOwner."""
        return self._outside.committed(table, key)

    async def reached(self, table: Table[Any, Any], key: Any) -> Sequence[str]:
        """Return when the row of a key contains what the caller has seen; see `App.reached`."""
        return await self._outside.reached(table, key)

    def sending(
        self, gate: Gate | None = None, seen: Seen = NOTHING_SEEN
    ) -> AbstractAsyncContextManager[SendScope]:
        """A scope whose events are one transaction, committed when the block ends without an error."""
        return self._outside.sending(gate, seen)

    def direct(self) -> AbstractContextManager[None]:
        """A context in which every event is a transaction of its own."""
        return self._outside.direct()

    @property
    def is_leader(self) -> bool:
        """Whether this worker owns partition 0 of the app's first group."""
        first = next(iter(self._groups), None)
        return first is not None and self._crew is not None and self._crew.view(first, 0) is not None

    def board(self) -> Board:
        """What the whiteboard shows, as of now."""
        if self._survey is None:
            return Board(app=self.app_id, instance=self.instance, state=self.state.value)
        return self._survey.board(
            instance=self.instance,
            state=self.state.value,
            view=self._shown,
            figures=self.figures_of_flow,
            sent_outside=Counter(self._outgate.sent if self._outgate else {})
            + Counter(self.figures_of_flow.requests.sent),
            now_s=self._clock.time(),
            shadows=[shadow.card() for shadow in self.shadows.values()],
        )

    def figures(self) -> Samples:
        """What /metrics shows of this run."""
        worker = {
            "app": self.app_id,
            "instance": self.instance,
            "state": self.state.value,
            "version": _VERSION,
        }
        followed, now_s = self.global_views(), self._clock.time()
        own = run_samples(self.figures_of_flow, self.views(), self._outgate, worker, followed, now_s=now_s)
        shadows = (shadow.findings.samples() for shadow in self.shadows.values())
        return chain(own, *shadows, PROCESS.samples())
