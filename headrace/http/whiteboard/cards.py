"""The things on the whiteboard, each drawn at a place: queue, agent, table, route, dead letters."""

from collections.abc import Sequence
from typing import NamedTuple

from headrace.http.whiteboard.board import AgentCard, Board, PartitionCard, RouteCard, TableCard, TopicCard
from headrace.http.whiteboard.ink import Ink

QUEUE_HEIGHT = 86.0
AGENT_HEIGHT = 82.0
TABLE_HEIGHT = 72.0
ROUTE_HEIGHT = 46.0
DEAD_HEIGHT = 80.0
_CELLS_MAX = 48
_PIPE = 34.0
_PATH_FROM = 200.0
"""In a narrower table the path would run into the number of rows."""


class Place(NamedTuple):
    """Where a card is."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> tuple[float, float]:
        """The middle of its left side."""
        return self.x - 4, self.y + self.height / 2

    @property
    def right(self) -> tuple[float, float]:
        """The middle of its right side."""
        return self.x + self.width + 2, self.y + self.height / 2


def draw_queue(ink: Ink, board: Board, topic: TopicCard, at: Place) -> None:
    """A topic: a pipe with a cell for each partition, filled by how far its reader lags."""
    slot = f"{board.app}/topic/{topic.name}"
    ink.text((at.x + 4, at.y + 14), topic.name, "name", width=at.width - 90, size=14.5)
    ink.text((at.x + at.width - 4, at.y + 14), "", "figure end", slot=f"{slot}/rate")
    top = at.y + 24
    ink.box(at.x, top, at.width, _PIPE, "pipe", topic.name)
    readers = [card for card in board.partitions if card.group in topic.groups[:1]]
    draw_cells(ink, board.app, topic, readers, Place(at.x + 8, top + 6, at.width - 16, _PIPE - 12))
    count = f"{topic.partitions} partition{'s' if topic.partitions > 1 else ''}"
    ink.text((at.x + 4, top + _PIPE + 17), count, "small")
    ink.text((at.x + at.width - 4, top + _PIPE + 17), "", "small end", slot=f"{slot}/lag")


def draw_cells(ink: Ink, app: str, topic: TopicCard, readers: Sequence[PartitionCard], inside: Place) -> None:
    """The partitions of a topic as its reader has them."""
    shown = min(topic.partitions, _CELLS_MAX)
    pitch = inside.width / shown
    width = max(1.5, pitch - 2.5)
    for number in range(shown):
        x = inside.x + number * pitch + (pitch - width) / 2
        frame = f'x="{x:.1f}" y="{inside.y:g}" width="{width:.1f}" height="{inside.height:g}" rx="2"'
        if number >= len(readers):
            ink.add(f'<rect class="cell" {frame}/>')
            continue
        card = readers[number]
        task = f"{app}/task/{card.group}/{card.number}"
        ink.add(
            f"<g{ink.live(task)}><title>partition {number}</title><rect class='cell' {frame}/>"
            f'<rect class="fill" {frame}{ink.live(f"{task}/{topic.name}")}/></g>'
        )


def draw_agent(ink: Ink, board: Board, agent: AgentCard, at: Place) -> None:
    """An agent with what it does, its rate and its trouble."""
    slot = f"{board.app}/agent/{agent.name}"
    ink.box(at.x, at.y, at.width, at.height, "agent", agent.name)
    ink.text((at.x + 14, at.y + 24), agent.name, "name", width=at.width - 28, size=14.5)
    ink.text((at.x + 14, at.y + 43), agent.about, "small", width=at.width - 28, size=11.5)
    ink.text((at.x + 14, at.y + at.height - 14), "", "figure", slot=f"{slot}/rate")
    ink.text((at.x + at.width - 14, at.y + at.height - 14), "", "alarm end", slot=f"{slot}/trouble")


def draw_table(ink: Ink, board: Board, table: TableCard, at: Place) -> None:
    """A table with its rows, and where it is read."""
    ink.box(at.x, at.y, at.width, at.height, "table", table.name)
    line = at.y + 30
    rules = f"M{at.x + 1:g} {line:g}h{at.width - 2:g}M{at.x + 30:g} {line:g}v{at.height - 31:g}"
    ink.add(f'<path class="rule" d="{rules}"/>')
    ink.text((at.x + 12, at.y + 20), table.name, "name", width=at.width - 24, size=14.5)
    ink.text((at.x + 42, line + 27), "", "figure big", slot=f"{board.app}/table/{table.name}/rows")
    if at.width < _PATH_FROM:
        return
    path = f"GET {table.path}/…" if table.path else "private"
    ink.text((at.x + at.width - 12, line + 26), path, "small end", width=at.width - 110, size=11.5)


def draw_route(ink: Ink, board: Board, route: RouteCard, at: Place) -> None:
    """An endpoint of the app's own."""
    ink.box(at.x, at.y, at.width, at.height, "route", route.path)
    ink.text((at.x + 12, at.y + 19), " ".join(route.methods), "small", width=at.width - 24, size=11.5)
    ink.text((at.x + 12, at.y + 36), route.path, "name", width=at.width - 24, size=14.5)


def draw_dead(ink: Ink, board: Board, at: Place) -> None:
    """Where refused events go."""
    ink.add(f'<g class="dead"{ink.live(f"{board.app}/dead/bin")}>')
    ink.box(at.x, at.y, at.width, at.height, "bin", board.dead_letters_topic)
    name = board.dead_letters_topic
    ink.text((at.x + 14, at.y + 25), name, "name", width=at.width - 28, size=14.5)
    ink.text((at.x + 14, at.y + 46), "", "figure", slot=f"{board.app}/dead/text")
    ink.text((at.x + 14, at.y + 66), "headrace -A APP dead-letters list", "small")
    ink.add("</g>")
