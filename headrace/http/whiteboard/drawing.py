"""One service as a picture: wide for a desk, narrow for a phone."""

from collections.abc import Mapping, Sequence
from html import escape

from headrace.http.whiteboard.board import AgentCard, Board, TopicCard
from headrace.http.whiteboard.cards import (
    AGENT_HEIGHT,
    DEAD_HEIGHT,
    QUEUE_HEIGHT,
    ROUTE_HEIGHT,
    TABLE_HEIGHT,
    Place,
    draw_agent,
    draw_dead,
    draw_queue,
    draw_route,
    draw_table,
)
from headrace.http.whiteboard.ink import Ink

_WIDTHS = {"route": 150.0, "queue": 250.0, "agent": 250.0, "table": 250.0}
_ACROSS = 92.0
"""Room for arrows between two columns."""
_DOWN = 24.0
_MARGIN = 14.0
_PHONE = 360.0


def draw_wide(board: Board, readings: Mapping[str, str]) -> str:
    """Queues, agents and tables from left to right."""
    return _Wide(board, readings).svg()


class _Wide:
    def __init__(self, board: Board, readings: Mapping[str, str]) -> None:
        self._board = board
        self._ink = Ink(readings, f"wide-{board.app}")
        self._inputs = [topic for topic in board.topics if topic.groups]
        self._outputs = [topic for topic in board.topics if not topic.groups]
        self._routes = [route for route in board.routes if route.sends]
        order = {topic.name: at for at, topic in enumerate(self._inputs)}
        self._agents = sorted(board.agents, key=lambda agent: order.get(agent.topic, 0))
        self._places: dict[str, Place] = {}

    def svg(self) -> str:
        """The whole picture."""
        width, height = self._place()
        self._draw_arrows()
        board, ink = self._board, self._ink
        for route in self._routes:
            draw_route(ink, board, route, self._places[f"route {route.path}"])
        for topic in board.topics:
            draw_queue(ink, board, topic, self._places[f"topic {topic.name}"])
        for agent in board.agents:
            draw_agent(ink, board, agent, self._places[f"agent {agent.name}"])
        for table in board.tables:
            draw_table(ink, board, table, self._places[f"table {table.name}"])
        draw_dead(ink, board, self._places["dead"])
        return frame(board, "wide", width, height, ink.markup())

    def _place(self) -> tuple[float, float]:
        columns: list[tuple[str, list[tuple[str, float]]]] = [
            ("queue", [(f"topic {topic.name}", QUEUE_HEIGHT) for topic in self._inputs]),
            ("agent", [(f"agent {agent.name}", AGENT_HEIGHT) for agent in self._agents]),
            (
                "table",
                [(f"table {table.name}", TABLE_HEIGHT) for table in self._board.tables]
                + [(f"topic {topic.name}", QUEUE_HEIGHT) for topic in self._outputs]
                + [("dead", DEAD_HEIGHT)],
            ),
        ]
        if self._routes:
            columns.insert(0, ("route", [(f"route {r.path}", ROUTE_HEIGHT) for r in self._routes]))
        heights = [sum(size for _, size in cards) + _DOWN * (len(cards) - 1) for _, cards in columns]
        height = max(heights)
        x = _MARGIN
        for (kind, cards), filled in zip(columns, heights, strict=True):
            # Short columns are spread a little, so that arrows stay flat.
            gap = _DOWN + min(56.0, (height - filled) / (len(cards) + 1)) if cards else _DOWN
            y = _MARGIN + (height - filled - (gap - _DOWN) * (len(cards) - 1)) / 2
            for name, size in cards:
                self._places[name] = Place(x, y, _WIDTHS[kind], size)
                y += size + gap
            x += _WIDTHS[kind] + _ACROSS
        return x - _ACROSS + _MARGIN, height + 2 * _MARGIN

    def _draw_arrows(self) -> None:
        app, ink = self._board.app, self._ink
        for route in self._routes:
            for topic in route.sends:
                self._arrow(f"route {route.path}", f"topic {topic}", "queues", f"{app}/topic/{topic}/sent")
        for agent in self._agents:
            mine, slot = f"agent {agent.name}", f"{app}/agent/{agent.name}"
            self._arrow(f"topic {agent.topic}", mine, "queues", slot)
            for table in agent.writes:
                self._arrow(mine, f"table {table}", "rows", slot)
            for table in agent.reads:
                (x1, y1), (x2, y2) = self._places[f"table {table}"].left, self._places[mine].right
                bend = (x1 - x2) * 0.45
                y1, y2 = y1 + 12, y2 + 12
                d = f"M{x1:g} {y1:g}C{x1 - bend:g} {y1:g} {x2 + bend:g} {y2:g} {x2 + 4:g} {y2:g}"
                ink.path(d, "reads", slot=slot)
            for topic in agent.sends:
                self._arrow(mine, f"topic {topic}", "queues", f"{app}/topic/{topic}/sent")
            self._arrow(mine, "dead", "letters", f"{slot}/dead")

    def _arrow(self, start: str, end: str, kind: str, slot: str) -> None:
        first, last = self._places.get(start), self._places.get(end)
        if first is None or last is None:
            return
        if last.x > first.x:
            self._ink.arrow(first.right, last.left, kind, slot=slot)
            return
        # Back to a queue on the left: around the lower edge of both.
        x1, y1 = first.x + first.width / 2, first.y + first.height + 2
        x2, y2 = last.x + last.width / 2, last.y + last.height + 4
        low = max(y1, y2) + 30
        self._ink.path(f"M{x1:g} {y1:g}C{x1:g} {low:g} {x2:g} {low:g} {x2:g} {y2:g}", kind, slot=slot)


def draw_narrow(board: Board, readings: Mapping[str, str]) -> str:
    """The same from top to bottom: each queue, and below it what its events become."""
    ink = Ink(readings, f"narrow-{board.app}")
    width, y = _PHONE - 2, 4.0
    for route in (route for route in board.routes if route.sends):
        draw_route(ink, board, route, Place(1, y, width - 2, ROUTE_HEIGHT))
        y += ROUTE_HEIGHT + 14
    for topic in (topic for topic in board.topics if topic.groups):
        y = _narrow_lane(ink, board, topic, y)
    half = (width - 12) / 2
    for at, table in enumerate(board.tables):
        x = 1 + (at % 2) * (half + 10)
        draw_table(ink, board, table, Place(x, y, half, TABLE_HEIGHT))
        if at % 2 or at == len(board.tables) - 1:
            y += TABLE_HEIGHT + 14
    y += 10
    for topic in (topic for topic in board.topics if not topic.groups):
        draw_queue(ink, board, topic, Place(1, y, width - 2, QUEUE_HEIGHT))
        y += QUEUE_HEIGHT + 16
    draw_dead(ink, board, Place(1, y, width - 2, DEAD_HEIGHT))
    return frame(board, "narrow", _PHONE, y + DEAD_HEIGHT + 6, ink.markup())


def _narrow_lane(ink: Ink, board: Board, topic: TopicCard, y: float) -> float:
    """A queue with its agents; the result is where the next one begins."""
    draw_queue(ink, board, topic, Place(1, y, _PHONE - 4, QUEUE_HEIGHT))
    rail = y + 58
    y += QUEUE_HEIGHT + 14
    for agent in (agent for agent in board.agents if agent.topic == topic.name):
        at = Place(48, y, _PHONE - 52, AGENT_HEIGHT + 20)
        corner = y + AGENT_HEIGHT / 2
        ink.path(
            f"M22 {rail + 26:g}V{corner - 12:g}Q22 {corner:g} 32 {corner:g}H44",
            "queues",
            slot=f"{board.app}/agent/{agent.name}",
        )
        draw_agent(ink, board, agent, Place(at.x, at.y, at.width, AGENT_HEIGHT))
        ink.text((at.x + 4, y + AGENT_HEIGHT + 17), _becomes(agent), "small", width=at.width - 8, size=11.5)
        y += AGENT_HEIGHT + 34
    return y + 6


def _becomes(agent: AgentCard) -> str:
    parts: Sequence[str] = [*agent.writes, *agent.sends]
    return "→ " + ", ".join(parts) if parts else ""


def frame(board: Board, kind: str, width: float, height: float, inside: str) -> str:
    """The picture as an SVG element that says what it shows."""
    queues = ", ".join(topic.name for topic in board.topics if topic.groups) or "no topic"
    agents = ", ".join(agent.name for agent in board.agents) or "no agent"
    tables = ", ".join(table.name for table in board.tables) or "no table"
    name = f"{kind}-{escape(board.app)}"
    return (
        f'<svg class="board {kind}" viewBox="0 0 {width:g} {height:g}" role="img" width="{width:g}" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">The service {escape(board.app)}</title>'
        f'<desc id="{name}-desc">Topics in: {escape(queues)}. Agents: {escape(agents)}. '
        f"Tables: {escape(tables)}. Refused events go to {escape(board.dead_letters_topic)}.</desc>"
        f"<defs>{heads(name)}</defs>{inside}</svg>"
    )


def heads(name: str) -> str:
    """The heads of the arrows of the picture with this name, by kind of arrow."""
    return "".join(
        f'<marker id="{name}-{kind}" class="head {kind}" viewBox="0 0 10 10" refX="8" refY="5" '
        f'markerWidth="7" markerHeight="7" orient="auto"><path d="M1 1L9 5L1 9"/></marker>'
        for kind in ("queues", "rows", "reads", "letters")
    )
