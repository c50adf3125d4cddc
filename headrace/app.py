"""The app: a `faust.App` whose data path is headrace's own."""

import inspect
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta, tzinfo
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import faust
from mode.utils.times import want_seconds
from yarl import URL

import headrace.cli.commands  # noqa: F401  (replaces Faust's commands, also under `faust -A`)
from headrace.configuration import TYPES, Loaded, load
from headrace.declarations import Declarations, Timed, inferred_types, refuse_options
from headrace.errors import DeclarationError, NotSupported, OutsideAgent
from headrace.events.value import Upcast
from headrace.faust_options import AGENT_OPTIONS, TABLE_OPTIONS, TOPIC_OPTIONS
from headrace.flow.agent import Agent, AgentFunction
from headrace.flow.outgate import SendScope
from headrace.flow.policy import DeadLetter, Policy, Stop, policy
from headrace.flow.stream import Stream
from headrace.flow.topic import Topic, parse_envelope, parse_partitioner
from headrace.http.source import Endpoint
from headrace.lifecycle import Boot, RuntimeService
from headrace.log.port import TopicSpec
from headrace.runtime import Runtime
from headrace.settings import Settings
from headrace.standalone import StandaloneSender
from headrace.tables.globaltable import GlobalTable as GlobalTableDeclaration
from headrace.tables.table import Table as TableDeclaration

K = TypeVar("K")
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


class App(faust.App):
    """A service: its agents, tables and reads.

    Settings may be given here by name (`http="127.0.0.1:6066"`); environment and command line win
    over them. Everything else that `faust.App` takes goes to Faust (`autodiscover=`, `timezone=`).
    """

    BootStrategy = Boot

    def __init__(self, id: str, **options: Any) -> None:  # noqa: A002  (Faust's name for it)
        self.declarations = Declarations(id)
        self._given = {name: options.pop(name) for name in [*options] if name in TYPES}
        self._loaded: Loaded | None = None
        self._service: RuntimeService | None = None
        self.current: Runtime | None = None
        """The run in progress; None while there is none."""
        # `broker` is only printed by Faust's banner; the address is what `faust worker -p/-b` writes to.
        defaults = {"broker": "headrace://", "web_enabled": False, "web_bind": "", "web_port": 6066}
        super().__init__(id, **{**defaults, **options})

    # --- declarations

    def topic(  # type: ignore[override]
        self,
        *names: str,
        key_type: Any = None,
        value_type: Any = None,
        partitions: int | None = None,
        retention: timedelta | float | None = None,
        compacting: bool | None = None,
        partitioner: str = "murmur2",
        envelope: str = "headrace",
        start: str = "earliest",
        upcast: Upcast | None = None,
        **options: Any,
    ) -> Topic[Any, Any]:
        """Declare a topic; it is created or verified when the worker starts.

        `partitions`: as many it must have; left out: as many as it has, 8 when it is new.
        `retention`: seconds or a timedelta. `partitioner`: how its producers place keys, `murmur2`
        or `crc32`. `start`: where a group that has no position yet begins, `earliest` or `latest`.
        `upcast`: makes of an event's JSON that does not fit `value_type` one that does.
        """
        refuse_options("app.topic", options, TOPIC_OPTIONS)
        if len(names) != 1:
            raise NotSupported("a topic has exactly one name here", hint="Declare one topic per name.")
        if partitions is not None and partitions < 1:
            raise DeclarationError(f"topic {names[0]} cannot have {partitions} partitions")
        if isinstance(retention, timedelta):
            retention = retention.total_seconds()
        spec = TopicSpec(
            name=names[0],
            partitions=partitions,
            is_compacted=bool(compacting),
            retention_ms=None if retention is None else int(retention * 1000),
        )
        topic: Topic[Any, Any] = Topic(
            names[0],
            key_type=key_type,
            value_type=bytes if value_type is None else _checked_value_type(value_type),
            spec=spec,
            partitioner=parse_partitioner(partitioner),
            envelope=parse_envelope(envelope),
            upcast=upcast,
        )
        self.declarations.add_topic(topic, start=start)
        return topic

    def agent(  # type: ignore[override]
        self,
        channel: Topic[Any, Any] | None = None,
        *,
        name: str | None = None,
        group: str = "main",
        on_error: Policy | type[DeadLetter] | type[Stop] | None = None,
        **options: Any,
    ) -> Callable[[Callable[[Stream[Any]], Awaitable[None]]], Agent]:
        """Declare an agent: `async def f(events): async for event in events: ...`.

        Agents and tables with the same `group` are one unit of consistency. `on_error`: what
        becomes of an event that the agent refuses: DeadLetter(), Stop() or Retry(times, then=...).
        """
        refuse_options("@app.agent", options, AGENT_OPTIONS)
        if not isinstance(channel, Topic):
            raise NotSupported(
                "an agent needs a topic", hint="Write @app.agent(topic) with topic = app.topic('name', ...)."
            )

        on_bad = policy(on_error)

        def declare(function: AgentFunction) -> Agent:
            called = name or function.__qualname__
            agent = Agent(function, channel, name=called, group=_group(group), on_error=on_bad)
            self.declarations.add_agent(agent)
            return agent

        return declare

    def Table(  # type: ignore[override]
        self,
        name: str,
        *,
        key_type: Any = None,
        value_type: Any = None,
        default: Callable[[], Any] | None = None,
        group: str = "main",
        help: str | None = None,  # noqa: A002  (Faust's name for it)
        upcast: Upcast | None = None,
        **options: Any,
    ) -> TableDeclaration[Any, Any]:
        """Declare a table; agents of its group write it.

        `default` makes the value of a key that has no row, as in Faust; the value type is that of
        `default` unless given, the key type is `str` unless given. `help` is for people. `upcast`
        makes of a row's JSON that does not fit the value type one that does.
        """
        refuse_options("app.Table", options, TABLE_OPTIONS)
        keys, values = inferred_types(f"table {name}", key_type, value_type, default)
        values, group = _checked_value_type(values), _group(group)
        table: TableDeclaration[Any, Any] = TableDeclaration(
            name, key_type=keys, value_type=values, default=default, group=group, upcast=upcast
        )
        self.declarations.add_table(table, help)
        return table

    def GlobalTable(  # type: ignore[override]
        self,
        name: str,
        *,
        key_type: Any = None,
        value_type: Any = None,
        default: Callable[[], Any] | None = None,
        group: str | None = None,
        help: str | None = None,  # noqa: A002  (Faust's name for it)
        upcast: Upcast | None = None,
        **options: Any,
    ) -> GlobalTableDeclaration[Any, Any]:
        """Declare a table that every worker has all of, for every agent, route, timer and task to read.

        It is a group of its own, named like the table unless given: one agent, declared with this
        `group=`, writes it. The other arguments are those of `Table`.
        """
        refuse_options("app.GlobalTable", options, TABLE_OPTIONS)
        keys, values = inferred_types(f"global table {name}", key_type, value_type, default)
        values, group = _checked_value_type(values), _group(name if group is None else group)
        table: GlobalTableDeclaration[Any, Any] = GlobalTableDeclaration(
            name, key_type=keys, value_type=values, default=default, group=group, upcast=upcast
        )
        self.declarations.add_table(table, help)
        return table

    def serve(self, table: TableDeclaration[Any, Any], path: str) -> None:
        """Make a table readable over HTTP: `GET path/{key}` and `GET path?start=&end=&prefix=&limit=`."""
        self.declarations.serve(table, path)

    def route(self, path: str, methods: Sequence[str] = ("GET",)) -> Callable[[Endpoint], Endpoint]:
        """Declare a Starlette endpoint; what it sends is one transaction, committed before it answers."""

        def declare(endpoint: Endpoint) -> Endpoint:
            self.declarations.add_route(path, endpoint, methods)
            return endpoint

        return declare

    async def reached(self, table: TableDeclaration[K, Any], key: K) -> Sequence[str]:
        """Return when the row of a key contains what this route, timer or task has seen and the request asks.

        The result is what nothing proves, as in Headrace-Unproven. Raises: NotReached, NotOwner and the like.
        """
        return await self._running().reached(table, key)

    def sending(self) -> AbstractAsyncContextManager[SendScope]:
        """A scope whose events are one transaction; `sent.position` of `... as sent` is known after it."""
        return self._running().sending()

    def timer(  # type: ignore[override]
        self,
        interval: timedelta | float | str,
        on_leader: bool = False,
        traced: bool = True,
        name: str | None = None,
        max_drift_correction: float = 0.1,
    ) -> Callable[[F], F]:
        """Run a coroutine function every so often; what one tick sends is one transaction."""
        declare = super().timer(interval, on_leader, traced, name, max_drift_correction)
        facts = {"interval_s": want_seconds(interval), "on_leader": on_leader}
        return lambda function: self._declared(declare, function, self._tick(function), **facts)

    def crontab(  # type: ignore[override]
        self,
        cron_format: str,
        *,
        timezone: tzinfo | None = None,
        on_leader: bool = False,
        traced: bool = True,
    ) -> Callable[[F], F]:
        """Run a coroutine function at the times a cron line names; what one tick sends is one transaction."""
        declare = super().crontab(cron_format, timezone=timezone, on_leader=on_leader, traced=traced)
        facts = {"cron": cron_format, "timezone": timezone, "on_leader": on_leader}
        return lambda function: self._declared(declare, function, self._tick(function), **facts)

    def task(  # type: ignore[override]
        self, fun: F | None = None, *, on_leader: bool = False, traced: bool = True
    ) -> Any:
        """Run a coroutine function once the worker is ready; each event it sends is its own transaction."""
        base = super().task(on_leader=on_leader, traced=traced)

        def declare(function: F) -> F:
            return self._declared(base, function, self._direct(function), on_leader=on_leader)

        return declare if fun is None else declare(fun)

    def command(self, *options: Any, base: Any = None, **kwargs: Any) -> Callable[[F], Any]:
        """Declare a command, `headrace -A app NAME`; each event it sends is its own transaction."""
        declare = super().command(*options, base=base, **kwargs)

        def scope(function: F) -> Any:
            @wraps(function)
            async def run(*arguments: Any, **given: Any) -> Any:
                async with StandaloneSender(self.declarations, lambda: self.settings_of_run().settings):
                    return await function(*arguments, **given)

            return declare(run)

        return scope

    def _declared(
        self, declare: Callable[[Any], Any], function: F, scoped: Callable[..., Any], **facts: Any
    ) -> F:
        timed = self.declarations.timed
        before = len(timed)
        declare(scoped)
        # Faust declares its timers as tasks in turn, which brings them here a second time.
        timed[before:] = [Timed(function=function, **facts)]
        return function

    def _tick(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(function)
        async def tick(*arguments: Any) -> Any:
            async with self._running().sending():
                return await function(*arguments)

        return tick

    def _direct(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(function)
        async def direct(*arguments: Any) -> Any:
            with self._running().direct():
                return await function(*arguments)

        return direct

    # --- a run

    def settings_of_run(self, command_line: Mapping[str, str] | None = None) -> Loaded:
        """The settings for a run that starts now, and where each came from. Raises: SettingsError."""
        address = dict(command_line or {})
        if self.conf.web_bind or self.conf.web_port != 6066:
            address.setdefault("http", f"{self.conf.web_bind or '127.0.0.1'}:{self.conf.web_port}")
        return load(
            command_line=address,
            environment=os.environ,
            app_arguments=self._given,
            file=Path("headrace.toml"),
        )

    def settings_in_code(self) -> Settings:
        """The settings as `App(...)` alone gives them: nothing of this machine or process."""
        return load(command_line={}, environment={}, app_arguments=self._given, file=None).settings

    def settle(self, command_line: Mapping[str, str]) -> Loaded:
        """Read the settings of the runs to come, which keep them. Raises: SettingsError."""
        self._loaded = self.settings_of_run(command_line)
        return self._loaded

    def new_runtime(self) -> Runtime:
        """A run of this app with the settings of now; it becomes the current one."""
        loaded = self._loaded or self.settings_of_run()
        for warning in loaded.warnings:
            self.log.warning("%s", warning)
        self.current = Runtime(self.declarations, loaded.settings)
        return self.current

    def _running(self) -> Runtime:
        if self.current is None:
            raise OutsideAgent(f"app {self.declarations.app_id} is not running in this process")
        return self.current

    @property
    def runtime_service(self) -> RuntimeService:
        """The runtime as Faust's worker runs it; made late, because reading `loop` at import binds it."""
        if self._service is None:
            self._service = RuntimeService(self, loop=self.loop, beacon=self.beacon)
        return self._service

    # --- hooks of faust.App whose base builds Kafka objects, aiohttp or folders

    async def on_first_start(self) -> None:
        """Faust would make its data folder."""

    async def on_start(self) -> None:
        """Faust would start topics and consumer."""
        self.finalize()

    async def _wait_for_table_recovery_completed(self) -> bool:
        await self.runtime_service.wait_ready()
        return bool(self.should_stop)

    async def on_stop(self) -> None:
        """Faust would stop consumer and producer."""
        await self.on_before_shutdown.send()

    def worker_init_post_autodiscover(self) -> None:
        """Faust would build its web server."""
        self.on_worker_init.send()

    def _on_autodiscovery_error(self, name: str) -> None:
        # Faust calls this inside its except block; its own version only warns.
        raise

    def is_leader(self) -> bool:
        """Whether this worker owns partition 0 of the first group."""
        return self.current is not None and self.current.is_leader

    def _new_transport(self) -> Any:
        return type("log", (), {"driver_version": "headrace"})

    @property
    def web_server_url(self) -> URL:
        """What Faust's banner prints."""
        return URL(f"http://{(self._loaded or self.settings_of_run()).settings.http}")

    @property
    def web_server_driver_version(self) -> str:
        """What Faust's banner prints."""
        return "uvicorn"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NotSupported("this part of faust.App is not part of headrace")

    _new_producer = _new_consumer = _new_conductor = _new_producer_transport = _refuse
    _new_web = _new_cache_backend = start_client = maybe_start_client = web_server = _refuse
    stream = channel = page = table_route = topic_route = SetTable = SetGlobalTable = _refuse
    send = _refuse


def _group(name: str) -> str:
    if not name or not all(c.isascii() and (c.isalnum() or c in "_-") for c in name):
        raise DeclarationError(f"{name!r} cannot be the name of a group")
    return name


def _checked_value_type(value_type: Any) -> Any:
    if inspect.isclass(value_type) and issubclass(value_type, faust.Record):
        raise NotSupported(
            f"{value_type.__name__} is a faust.Record",
            hint="Make it a headrace.Event or msgspec.Struct; the fields can stay as they are.",
        )
    return value_type
