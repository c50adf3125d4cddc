"""What an app is made of: topics, agents, tables, and what is served; checked as it is declared."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from headrace.bridge.diff.declared import Compared
from headrace.bridge.shadow.declared import Shadow
from headrace.errors import DeclarationError
from headrace.flow.agent import Agent
from headrace.flow.post import Post
from headrace.flow.references import writes
from headrace.flow.topic import Topic
from headrace.http.source import Endpoint, UserRoute
from headrace.tables.globaltable import GlobalTable
from headrace.tables.table import Table

_RESERVED_PATHS = (
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/",
    "/whiteboard",
    "/whiteboard/feed",
    "/whiteboard/row",
    "/whiteboard/board",
    "/whiteboard/why",
    "/whiteboard/history",
    "/whiteboard/shadows",
)
_READING = frozenset({"GET", "HEAD"})
"""Methods that a served table answers itself; a route at its path may take the others."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A table that is readable at a path."""

    table: Table[Any, Any]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What the worker runs by itself: every so often, by a cron line or at its start."""

    function: Callable[..., Awaitable[Any]]
    interval_s: float | None = None
    cron: str | None = None
    timezone: tzinfo | None = None
    on_leader: bool = False

    @property
    def is_once(self) -> bool:
        """Whether it is run once, at the start."""
        return self.interval_s is None and self.cron is None


@dataclass(slots=True)
class Declarations:
    """Everything declared on one app; holds nothing of a run."""

    app_id: str
    topics: dict[str, Topic[Any, Any]] = field(default_factory=dict)
    agents: list[Agent] = field(default_factory=list)
    tables: dict[str, Table[Any, Any]] = field(default_factory=dict)
    served: list[Serving] = field(default_factory=list)
    routes: list[UserRoute] = field(default_factory=list)
    starts_latest: set[str] = field(default_factory=set)
    timed: list[Timed] = field(default_factory=list)
    shadows: dict[str, Shadow[Any, Any]] = field(default_factory=dict)
    """By the name of the table whose reads are compared."""
    posts: list[Post] = field(default_factory=list)
    compared: dict[str, Compared[Any, Any]] = field(default_factory=dict)
    """By the name of the table that is compared with one of the database."""

    def __post_init__(self) -> None:
        check_app_id(self.app_id)

    def add_topic(self, topic: Topic[Any, Any], *, start: str) -> None:
        """Register a topic. Raises: DeclarationError when its name is taken by another declaration."""
        if start not in ("earliest", "latest"):
            raise DeclarationError(
                f"start={start!r} of topic {topic.name} is neither 'earliest' nor 'latest'"
            )
        if topic.name in self.topics:
            raise DeclarationError(f"topic {topic.name} is declared twice", hint="Share one declaration.")
        self.topics[topic.name] = topic
        if start == "latest":
            self.starts_latest.add(topic.name)

    def add_agent(self, agent: Agent) -> None:
        """Register an agent. Raises: DeclarationError: its name is taken, or its topic is another app's."""
        if any(known.name == agent.name for known in self.agents):
            raise DeclarationError(f"agent {agent.name} is declared twice", hint="Give one of them a name=.")
        if self.topics.get(agent.topic.name) is not agent.topic:
            raise DeclarationError(
                f"agent {agent.name} reads topic {agent.topic.name}, which is not declared on this app"
            )
        self.agents.append(agent)

    @property
    def bridged(self) -> str:
        """What of a database is declared, in words; empty for nothing."""
        appliers = [f"the applier's agent {agent.name}" for agent in self.agents if agent.sink is not None]
        relays = [f"the relay {post.name}" for post in self.posts]
        return ", ".join([*appliers, *relays, *(f"the shadow of {name}" for name in self.shadows)])

    def add_post(self, post: Post) -> None:
        """Register what one worker at a time looks after. Raises: DeclarationError when its name is taken."""
        if post.name in {other.name for other in self.posts} | {agent.group for agent in self.agents}:
            raise DeclarationError(f"the name {post.name} is taken already", hint="Give it another name=.")
        self.posts.append(post)

    def add_table(self, table: Table[Any, Any], about: str | None = None) -> None:
        """Register a table, and what it says to people. Raises: DeclarationError when its name is taken."""
        if table.name in self.tables:
            raise DeclarationError(f"table {table.name} is declared twice", hint="Share one declaration.")
        table.__doc__ = about or table.__doc__
        self.tables[table.name] = table

    def serve(self, table: Table[Any, Any], path: str) -> None:
        """Make a table readable. Raises: DeclarationError for a path that is taken or malformed."""
        self._check_path(path)
        if self.tables.get(table.name) is not table:
            raise DeclarationError(f"table {table.name} is served, but not declared on this app")
        self.served.append(Serving(table, path))

    def add_route(self, path: str, endpoint: Endpoint, methods: Sequence[str]) -> None:
        """Register an endpoint. Raises: DeclarationError for a path that is taken or malformed."""
        if not path.startswith("/"):
            raise DeclarationError(f"the path {path!r} does not begin with a slash")
        methods = tuple(method.upper() for method in methods)
        served = {serving.path for serving in self.served} if not _READING.isdisjoint(methods) else set()
        taken = {route.path for route in self.routes if not set(route.methods).isdisjoint(methods)}
        if path in served | taken or path in _RESERVED_PATHS:
            raise DeclarationError(f"the path {path} is taken already")
        self.routes.append(UserRoute(path=path, endpoint=endpoint, methods=methods))

    def add_shadow(self, shadow: Shadow[Any, Any]) -> None:
        """Register shadow reads of a table. Raises: DeclarationError: not this app's table, or its second."""
        name = shadow.table.name
        if self.tables.get(name) is not shadow.table:
            raise DeclarationError(f"table {name} has a shadow, but is not declared on this app")
        if name in self.shadows:
            raise DeclarationError(f"table {name} has two shadows")
        self.shadows[name] = shadow

    def add_compared(self, compared: Compared[Any, Any]) -> None:
        """Register a comparison of a table. Raises: DeclarationError: not this app's table, or its second."""
        name = compared.table.name
        if self.tables.get(name) is not compared.table:
            raise DeclarationError(f"table {name} is compared, but is not declared on this app")
        if name in self.compared:
            raise DeclarationError(f"table {name} is compared twice")
        self.compared[name] = compared

    def _check_path(self, path: str) -> None:
        parts = path.split("/")[1:]
        if not path.startswith("/") or not all(parts) or any(c in path for c in "{}?#% "):
            raise DeclarationError(f"{path!r} is no path for a table", hint="Write it like '/balances'.")
        reading = {route.path for route in self.routes if not _READING.isdisjoint(route.methods)}
        taken = {serving.path for serving in self.served} | reading
        if path in taken or path in _RESERVED_PATHS:
            raise DeclarationError(f"the path {path} is taken already")


def check_global_tables(declared: Declarations) -> None:
    """Refuse a global table that is not a group of its own with one agent. Raises: DeclarationError."""
    for table in declared.tables.values():
        if not isinstance(table, GlobalTable):
            continue
        what, group = f"global table {table.name}", table.group
        for other in declared.tables.values():
            if other.group == group and other is not table:
                raise DeclarationError(
                    f"table {other.name} is in group {group}, which is that of {what}",
                    hint="A global table is a group of its own; declare the other table with another group=.",
                )
        _check_writer(what, table, declared.agents)


def _check_writer(what: str, table: GlobalTable[Any, Any], agents: Sequence[Agent]) -> None:
    write = f'@app.agent(topic, group="{table.group}")'
    strangers = [agent for agent in agents if agent.group != table.group and writes(agent.function, table)]
    if strangers:
        raise DeclarationError(
            f"agent {strangers[0].name} of group {strangers[0].group} writes {what}",
            hint=f"Only the agent of the table's own group writes it; declare that one as {write}.",
        )
    writers = [agent.name for agent in agents if agent.group == table.group]
    if not writers:
        raise DeclarationError(
            f"no agent writes {what}", hint=f"Declare the agent that does as {write}, or remove the table."
        )
    if len(writers) > 1:
        raise DeclarationError(
            f"{what} has {len(writers)} agents in its group {table.group}: {', '.join(writers)}",
            hint="One agent writes a global table; give the others another group=, where they can read it.",
        )


def check_app_id(app_id: str) -> None:
    """Refuse an id that cannot be part of a topic name. Raises: DeclarationError."""
    if (
        not app_id
        or len(app_id) > 150
        or not all(c.isascii() and (c.isalnum() or c in "._-") for c in app_id)
    ):
        raise DeclarationError(
            f"{app_id!r} cannot be the id of an app",
            hint="It becomes part of topic names: letters, digits, dot, dash and underscore.",
        )


def inferred_types(
    what: str, key_type: Any, value_type: Any, default: Callable[[], Any] | None
) -> tuple[Any, Any]:
    """The key and value type of a table, as Faust infers them: text keys, and the type of the default."""
    if value_type is None:
        if not isinstance(default, type):
            raise DeclarationError(
                f"{what} declares no value type", hint="Give it a value_type= or a default=."
            )
        value_type = default
    return (str if key_type is None else key_type), value_type


def refuse_options(what: str, options: Mapping[str, Any], known: Mapping[str, str]) -> None:
    """Refuse options that Faust has and headrace does not. Raises: DeclarationError, TypeError."""
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"{what} got an unexpected argument {name!r}")
        if value is not None:
            raise DeclarationError(f"{what}: {name}= is not supported", hint=known[name])
