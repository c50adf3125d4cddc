"""Several services in one picture: houses side by side, and below them the queues they share."""

from collections.abc import Mapping, Sequence
from html import escape

from headrace.http.whiteboard.board import Board, TopicCard
from headrace.http.whiteboard.cards import Place, draw_cells
from headrace.http.whiteboard.drawing import draw_narrow, heads
from headrace.http.whiteboard.ink import Ink
from headrace.http.whiteboard.page import document, live, pill

_GUTTER = 176.0
_HOUSE = 318.0
_BETWEEN = 20.0
_ROW = 34.0
_HEAD = 52.0
_ROUTE = 26.0
_LANE = 78.0
_PIPE = 34.0
_ABOVE_LANES = 58.0


def page_of(boards: Sequence[Board], readings: Mapping[str, str], addresses: Mapping[str, str]) -> bytes:
    """One page for all services; `addresses` are those of their own pages."""
    title = " · ".join(board.app for board in boards)
    cards = "".join(_summary(board, readings, addresses[board.app]) for board in boards)
    phones = "".join(
        f'<section class="sheet picture phone"><h2>{escape(board.app)}</h2>'
        f"{draw_narrow(board, readings)}</section>"
        for board in boards
    )
    inside = (
        "<header><h1>From state to flow</h1>"
        f'<span class="worker">{len(boards)} services, {len(_topics(boards))} queues, '
        "no shared database</span>"
        '</header><section class="sheet picture desk" aria-label="Whiteboard">'
        f'{draw_system(boards, readings)}</section><div class="three">{cards}</div>{phones}'
    )
    return document(title, inside, shape_of(boards))


def shape_of(boards: Sequence[Board]) -> str:
    """The same text for the same boxes and arrows."""
    return "\n\n".join(board.shape for board in boards)


def _summary(board: Board, readings: Mapping[str, str], address: str) -> str:
    names = (
        ("Events per second", "rate", ""),
        ("Behind", "lag", ""),
        ("Serving", "partitions", ""),
        ("Dead letters", "dead", "data-count"),
    )
    rows = "".join(
        f"<dt>{name}</dt><dd{live(readings, f'{board.app}/{slot}', attribute)}</dd>"
        for name, slot, attribute in names
    )
    return (
        f'<section class="sheet service"><h2><a href="{escape(address)}">{escape(board.app)}</a> '
        f'{pill(board.app, readings)}</h2><dl>{rows}</dl><p class="hint"><a href="{escape(address)}">'
        "Its own whiteboard, with keys to look up</a></p></section>"
    )


def draw_system(boards: Sequence[Board], readings: Mapping[str, str]) -> str:
    """The picture for a desk; on a phone each service has its own."""
    ink = Ink(readings, "system")
    topics = _topics(boards)
    height = max(map(_house_height, boards))
    houses = [Place(_GUTTER + at * (_HOUSE + _BETWEEN), 6, _HOUSE, height) for at in range(len(boards))]
    width = _GUTTER + len(boards) * (_HOUSE + _BETWEEN) - _BETWEEN + 6
    first_lane = height + _ABOVE_LANES
    lanes = {name: first_lane + at * _LANE for at, name in enumerate(topics)}
    ink.text((4, 34), "Services", "title")
    ink.text((4, 54), "private tables,", "small")
    ink.text((4, 70), "read over HTTP", "small")
    for board, house in zip(boards, houses, strict=True):
        _draw_arrows(ink, board, house, lanes)
    for name, (board, topic) in topics.items():
        _draw_lane(ink, board, topic, Place(_GUTTER, lanes[name], width - _GUTTER - 6, _PIPE))
    for board, house in zip(boards, houses, strict=True):
        _draw_house(ink, board, house)
    bottom = first_lane + len(topics) * _LANE - 20
    said = "; ".join(f"{board.app} reads {_listed(board)}" for board in boards)
    return (
        f'<svg class="board wide" viewBox="0 0 {width:g} {bottom:g}" width="{width:g}" role="img" '
        'aria-labelledby="system-title system-desc">'
        '<title id="system-title">Services and their queues</title>'
        f'<desc id="system-desc">{escape(said)}.</desc><defs>{heads("system")}</defs>{ink.markup()}</svg>'
    )


def _listed(board: Board) -> str:
    return ", ".join(topic.name for topic in board.topics if topic.groups) or "nothing"


def _topics(boards: Sequence[Board]) -> dict[str, tuple[Board, TopicCard]]:
    """Every topic once, in the order of the services that send to it, with who tells of its partitions."""
    ordered: dict[str, tuple[Board, TopicCard]] = {}
    for board in boards:
        for topic in board.topics:
            if topic.is_sent:
                ordered.setdefault(topic.name, (board, topic))
    for board in boards:
        for topic in board.topics:
            known = ordered.get(topic.name)
            # Its last reader is the one whose lag is most telling: it has the most to do.
            if known is None or topic.groups:
                ordered[topic.name] = (board, topic)
    return ordered


def _draw_arrows(ink: Ink, board: Board, house: Place, lanes: Mapping[str, float]) -> None:
    ports = [(topic, "sent") for topic in board.topics if topic.is_sent]
    ports += [(topic, "read") for topic in board.topics if topic.groups]
    step = house.width / (len(ports) + 1)
    floor = house.y + house.height
    for at, (topic, way) in enumerate(ports, 1):
        x, lane = house.x + at * step, lanes[topic.name]
        d = f"M{x:g} {floor + 3:g}V{lane - 5:g}" if way == "sent" else f"M{x:g} {lane - 2:g}V{floor + 6:g}"
        ink.path(d, "queues", slot=f"{board.app}/topic/{topic.name}/{way}")
        ink.text((x + 7, floor + 24), "sends" if way == "sent" else "reads", "small")


def _draw_lane(ink: Ink, board: Board, topic: TopicCard, at: Place) -> None:
    slot = f"{board.app}/topic/{topic.name}"
    ink.text((4, at.y + 14), topic.name, "name", width=_GUTTER - 12, size=14.5)
    ink.text((4, at.y + 33), "", "figure", slot=f"{slot}/rate")
    ink.text((_GUTTER - 14, at.y + 33), "", "small end", slot=f"{slot}/lag")
    ink.box(at.x, at.y, at.width, at.height, "pipe", topic.name)
    readers = [card for card in board.partitions if card.group in topic.groups[:1]]
    draw_cells(ink, board.app, topic, readers, Place(at.x + 8, at.y + 6, at.width - 16, at.height - 12))


def _house_height(board: Board) -> float:
    return _HEAD + _ROUTE * len(board.routes) + _ROW * (len(board.agents) + len(board.tables)) + 18


def _draw_house(ink: Ink, board: Board, at: Place) -> None:
    ink.box(at.x, at.y, at.width, at.height, "house", board.app)
    ink.text((at.x + 18, at.y + 34), board.app, "title", width=at.width - 130, size=21)
    ink.text((at.x + at.width - 18, at.y + 33), "", "small end", slot=f"{board.app}/state")
    y = at.y + _HEAD
    for route in board.routes:
        ink.text((at.x + 18, y + 20), f"{' '.join(route.methods)} {route.path}", "small", width=at.width - 40)
        y += _ROUTE
    y += 2
    for agent in board.agents:
        _draw_row(ink, Place(at.x + 14, y, at.width - 28, _ROW - 5), "agent", agent.name)
        ink.text(
            (at.x + at.width - 26, y + 19), "", "figure end", slot=f"{board.app}/agent/{agent.name}/rate"
        )
        y += _ROW
    y += 6
    for table in board.tables:
        _draw_row(ink, Place(at.x + 14, y, at.width - 28, _ROW - 5), "table", table.name)
        rows = f"{board.app}/table/{table.name}/rows"
        ink.text((at.x + at.width - 26, y + 19), "", "count end", slot=rows)
        y += _ROW


def _draw_row(ink: Ink, at: Place, kind: str, name: str) -> None:
    ink.box(at.x, at.y, at.width, at.height, kind, name)
    ink.text((at.x + 12, at.y + 19), name, "row", width=at.width - 100)
