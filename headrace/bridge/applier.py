"""The old database as a consumer: agents that write SQL, each event once."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from headrace.bridge.database import Database
from headrace.bridge.session import Parameters, SqlRow
from headrace.bridge.sqlsink import SqlSink, sink_in_hand, statement
from headrace.errors import DeclarationError
from headrace.flow.agent import Agent, AgentFunction
from headrace.flow.policy import DeadLetter, Policy, Stop, policy
from headrace.flow.stream import Stream
from headrace.flow.topic import Topic


class Declares(Protocol):
    """Where agents are declared."""

    def add_agent(self, agent: Agent) -> None:
        """Register an agent. Raises: DeclarationError."""


class App(Protocol):
    """A `headrace.App`, as far as an applier knows it."""

    @property
    def declarations(self) -> Declares: ...


class Applier:
    """Agents that keep a database up to date from events, exactly once.

    It is a group of its own. What its agents write for the events of a unit, and the position behind
    them (`headrace_positions`), are one SQL transaction; whichever side is killed, each event is there
    once. Its agents send nothing and write no tables of headrace.
    `every_s`: each partition is written at most once in so long, in fewer and larger transactions.
    """

    def __init__(
        self,
        app: App,
        database: Database | None = None,
        *,
        group: str = "applier",
        every_s: float = 0.0,
    ) -> None:
        if every_s < 0:
            raise DeclarationError(f"every_s={every_s} of the applier {group} is below 0")
        self.group = group
        self._app = app
        self._sink = SqlSink(database or Database(), every_s=every_s)

    def agent(
        self,
        topic: Topic[Any, Any],
        *,
        name: str | None = None,
        on_error: Policy | type[DeadLetter] | type[Stop] | None = None,
    ) -> Callable[[Callable[[Stream[Any]], Awaitable[None]]], Agent]:
        """Declare an agent that writes SQL: `async def f(events): async for event in events: ...`.

        A statement or row that the database refuses is the refusal of its event, found by itself however
        many are written at once; `on_error` says what becomes of that event.
        """
        on_bad = policy(on_error)

        def declare(function: AgentFunction) -> Agent:
            called = name or function.__qualname__
            agent = Agent(function, topic, name=called, group=self.group, on_error=on_bad, sink=self._sink)
            self._app.declarations.add_agent(agent)
            return agent

        return declare

    def execute(self, sql: str, parameters: Parameters = ()) -> None:
        """Let a statement run with what else this event writes, in order; `%s` for each parameter.

        Raises: OutsideAgent outside of this applier's agents.
        """
        sink_in_hand("applier.execute").write(*statement(sql, parameters))

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[SqlRow]:
        """The rows of a query, which sees what was written so far; slower than writing only.

        Raises: StatementRefused, OutsideAgent.
        """
        return await sink_in_hand("applier.fetch").fetch(sql, parameters)
