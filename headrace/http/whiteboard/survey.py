"""Makes the board of a worker from its declarations, partitions and figures."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from headrace.errors import HeadraceError
from headrace.flow.agent import Agent
from headrace.flow.deadletter import dead_letters_name
from headrace.flow.figures import AgentFigures, FlowFigures
from headrace.flow.group import Group
from headrace.flow.references import References, references
from headrace.http.source import ServedTable, UserRoute
from headrace.http.whiteboard.board import (
    AgentCard,
    Board,
    HeldCard,
    PartitionCard,
    RouteCard,
    ShadowCard,
    TableCard,
    TopicCard,
)
from headrace.log.port import TopicInfo
from headrace.tables.table import Table
from headrace.tables.view import PartitionView, ViewState

_NOTHING = AgentFigures()


class Survey:
    """What is the same as long as a worker runs, read once; `board` adds what moves."""

    def __init__(
        self,
        app: str,
        *,
        groups: Sequence[Group],
        topics: Mapping[str, TopicInfo],
        served: Sequence[ServedTable],
        routes: Sequence[UserRoute],
    ) -> None:
        self._app = app
        self._groups = groups
        self._topics = topics
        self._paths = {table.name: table.path for table in served}
        self._agents = [
            (group, agent, references(agent.function)) for group in groups for agent in group.agents
        ]
        self._global = {table.name for group in groups if group.is_global for table in group.tables}
        self._routes = tuple(
            RouteCard(path=route.path, methods=route.methods, sends=references(route.endpoint).topics)
            for route in routes
        )

    def board(
        self,
        *,
        instance: str,
        state: str,
        view: Callable[[str, int], PartitionView | None],
        figures: FlowFigures,
        sent_outside: Mapping[str, int],
        now_s: float,
        shadows: Sequence[ShadowCard] = (),
    ) -> Board:
        """The board as of now; rows are counted elsewhere."""
        sent = {name: figures.sent.get(name, 0) + sent_outside.get(name, 0) for name in self._topics}
        partitions = tuple(
            partition_card(group.name, number, view(group.name, number), self._topics, now_s)
            for group in self._groups
            for number in range(group.partitions)
        )
        agents = tuple(
            _agent(group, agent, named, self._global, figures.agents.get((group.name, agent.name), _NOTHING))
            for group, agent, named in self._agents
        )
        return Board(
            app=self._app,
            instance=instance,
            state=state,
            topics=tuple(self._topic(name, agents, partitions, sent) for name in self._topics),
            agents=agents,
            tables=tuple(self._table(table) for group in self._groups for table in group.tables),
            routes=self._routes,
            partitions=partitions,
            dead_letters=figures.dead_letters,
            dead_letters_topic=dead_letters_name(self._app),
            shadows=tuple(shadows),
        )

    def _topic(
        self,
        name: str,
        agents: Sequence[AgentCard],
        partitions: Sequence[PartitionCard],
        sent: Mapping[str, int],
    ) -> TopicCard:
        senders = {topic for agent in agents for topic in agent.sends}
        senders |= {topic for route in self._routes for topic in route.sends}
        return TopicCard(
            name=name,
            partitions=self._topics[name].partitions,
            groups=tuple(group.name for group in self._groups if name in group.inputs),
            is_sent=name in senders or sent[name] > 0,
            # Each agent of a topic gets all of its events.
            events_read=max((card.events for card in agents if card.topic == name), default=0),
            events_sent=sent[name],
            lag=sum(card.lags.get(name, 0) for card in partitions),
        )

    def _table(self, table: Table[Any, Any]) -> TableCard:
        about = vars(table).get("__doc__") or ""
        return TableCard(
            name=table.name, group=table.group, path=self._paths.get(table.name, ""), about=_first_line(about)
        )


def _agent(
    group: Group, agent: Agent, named: References, read_by_all: Collection[str], figures: AgentFigures
) -> AgentCard:
    own = {table.name for table in group.tables}
    return AgentCard(
        name=agent.name,
        group=group.name,
        topic=agent.topic.name,
        about=_first_line(agent.__doc__ or ""),
        reads=tuple(name for name in named.reads if name in own or name in read_by_all),
        writes=tuple(name for name in named.writes if name in own),
        sends=tuple(name for name in named.topics if name != agent.topic.name),
        events=figures.events,
        retries=figures.retries,
        dead_letters=figures.dead_letters,
    )


def partition_card(
    group: str, number: int, view: PartitionView | None, topics: Collection[str], now_s: float
) -> PartitionCard:
    """One task as its view tells; its inputs are those of `topics` that it has a position in."""
    if view is None:
        return PartitionCard(group=group, number=number, state="elsewhere")
    error = ""
    state = view.state.value
    if view.state not in (ViewState.SERVING, ViewState.RESTORING):
        state, error = "stopped", _refusal(view)
    shown = {place: offset for place, offset in view.position.items() if place.topic in topics}
    return PartitionCard(
        group=group,
        number=number,
        state=state,
        offsets={place.topic: offset for place, offset in shown.items()},
        lags={
            place.topic: max(0, view.input_ends.get(place, offset) - offset)
            for place, offset in shown.items()
        },
        restored=view.restore_offset - view.restore_start,
        to_restore=max(0, view.restore_end - view.restore_start),
        error=error,
        held=tuple(
            HeldCard(
                topic=place.topic,
                offset=held.offset,
                since_s=held.since,
                for_s=max(0.0, now_s - held.since),
                waits_for={f"{p.topic}/{p.partition}": offset for p, offset in held.waits_for.items()},
            )
            for place, held in sorted(view.held.items())
        ),
    )


def _refusal(view: PartitionView) -> str:
    """The name of the error that readers of this partition get."""
    try:
        view.get(b"\x01")
    except HeadraceError as error:
        return type(error).__name__
    return ""


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""
