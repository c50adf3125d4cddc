"""The chain as one draws it on a whiteboard: the shared database in the middle, and what takes its place."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.http.whiteboard.cards import Place
from headrace.http.whiteboard.drawing import heads
from headrace.http.whiteboard.ink import Ink

Point = tuple[float, float]
_OLD_TABLES = ("baskets", "redemptions", "balances", "departments", "judgements")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything is, for one width."""

    name: str
    width: float
    height: float
    boxes: Mapping[str, Place]
    paths: Mapping[str, str]
    """The way of each arrow."""
    labels: Mapping[str, Point]
    """Where the words of an arrow stand."""
    chip: float
    """Width of a table in the database."""


DESK = Layout(
    name="desk",
    width=1090,
    height=516,
    boxes={
        "readers": Place(690, 6, 210, 58),
        "checkout": Place(16, 128, 190, 76),
        "promotions": Place(244, 128, 190, 76),
        "old": Place(520, 128, 200, 76),
        "own": Place(860, 128, 214, 112),
        "checkout.events": Place(860, 304, 214, 32),
        "promotions.events": Place(860, 346, 214, 32),
        "database": Place(16, 316, 750, 186),
    },
    paths={
        "read-old": "M742 68C742 98 640 90 640 122",
        "read-own": "M848 68C848 98 950 90 950 122",
        "checkout": "M110 206V308",
        "promotions": "M338 206V308",
        "loyalty": "M620 206V308",
        "relay": "M768 376C812 376 808 340 852 340",
        "applier": "M966 382V456H776",
        "own-in": "M966 300V246",
    },
    labels={
        "checkout": (122, 254),
        "promotions": (350, 254),
        "loyalty": (632, 254),
        "relay": (786, 330),
        "applier": (820, 446),
        "own-in": (978, 280),
    },
    chip=112,
)
PHONE = Layout(
    name="phone",
    width=360,
    height=724,
    boxes={
        "readers": Place(84, 4, 192, 58),
        "old": Place(6, 104, 148, 66),
        "own": Place(190, 104, 164, 104),
        "checkout.events": Place(190, 262, 164, 30),
        "promotions.events": Place(190, 300, 164, 30),
        "checkout": Place(28, 376, 114, 60),
        "promotions": Place(148, 376, 114, 60),
        "database": Place(6, 506, 348, 208),
    },
    paths={
        "read-old": "M140 66C140 88 84 78 84 98",
        "read-own": "M222 66C222 88 270 78 270 98",
        "checkout": "M85 438V500",
        "promotions": "M205 438V500",
        "loyalty": "M16 172V500",
        "relay": "M276 502V336",
        "applier": "M340 334V498",
        "own-in": "M272 258V214",
    },
    labels={
        "checkout": (93, 474),
        "promotions": (213, 474),
        "loyalty": (24, 262),
        "relay": (283, 362),
        "applier": (286, 486),
        "own-in": (280, 240),
    },
    chip=100,
)
_ARROWS = {
    "read-old": "queues", "read-own": "queues", "checkout": "queues", "promotions": "queues",
    "loyalty": "queues", "relay": "queues", "applier": "rows", "own-in": "queues",
}  # fmt: skip
_SAID = (
    "Three services on one shared database, and how loyalty leaves it: outboxes, queues, a table of its own"
)


def draw(layout: Layout, readings: Mapping[str, str], kind: str) -> str:
    """The picture as SVG; what changes is marked with its slot."""
    ink = Ink(readings, f"migrate-{layout.name}")
    for name, path in layout.paths.items():
        ink.add(f"<g{ink.live(f'{name}/shown')}>")
        ink.path(path, _ARROWS[name], slot=name)
        if name in layout.labels:
            ink.text(layout.labels[name], "", "figure", slot=f"{name}/rate")
        ink.add("</g>")
    _draw_database(ink, layout)
    for name in ("readers", "checkout", "promotions", "old"):
        _draw_house(ink, layout, name)
    ink.add(f"<g{ink.live('new/shown')}>")
    _draw_own(ink, layout)
    for name in ("checkout.events", "promotions.events"):
        at = layout.boxes[name]
        ink.box(at.x, at.y, at.width, at.height, "pipe", name)
        ink.text((at.x + 12, at.y + at.height / 2 + 5), name, "row", width=at.width - 20)
    ink.add("</g>")
    return (
        f'<svg class="board {kind}" viewBox="0 0 {layout.width:g} {layout.height:g}" '
        f'width="{layout.width:g}" role="img" aria-label="{_SAID}">'
        f"<defs>{heads(ink.name)}</defs>{ink.markup()}</svg>"
    )


def _draw_house(ink: Ink, layout: Layout, name: str) -> None:
    at = layout.boxes[name]
    ink.add(f"<g{ink.live(f'{name}/shown')}>")
    ink.box(at.x, at.y, at.width, at.height, "agent", name)
    ink.text((at.x + 12, at.y + 25), "", "name", slot=f"{name}/title")
    ink.text((at.x + 12, at.y + at.height - 12), "", "small", slot=f"{name}/note")
    ink.add("</g>")


def _draw_own(ink: Ink, layout: Layout) -> None:
    at = layout.boxes["own"]
    ink.box(at.x, at.y, at.width, at.height, "house", "own")
    ink.text((at.x + 12, at.y + 25), "loyalty", "name")
    ink.text((at.x + 12, at.y + 44), "", "small", slot="own/note")
    ink.box(at.x + 10, at.y + at.height - 46, at.width - 20, 34, "table", "own balances")
    ink.text((at.x + 22, at.y + at.height - 24), "its own table", "row", width=at.width - 40)


def _draw_database(ink: Ink, layout: Layout) -> None:
    at = layout.boxes["database"]
    ink.add(
        f'<rect x="{at.x:g}" y="{at.y:g}" width="{at.width:g}" height="{at.height:g}" rx="16" '
        f'stroke-width="2.2"{ink.live("heat")}/>'
    )
    ink.text((at.x + 18, at.y + 30), "One shared database", "name")
    ink.text((at.x + 18, at.y + 70), "", "title", slot="load")
    ink.text((at.x + 18, at.y + 90), "statements per second", "small")
    across = max(1, int((at.width - 24) / (layout.chip + 8)))
    for number, name in enumerate((*_OLD_TABLES, "outbox")):
        x = at.x + 14 + number % across * (layout.chip + 8)
        y = at.y + 106 + number // across * 38
        ink.add(f"<g{ink.live('outbox/shown')}>" if name == "outbox" else "<g>")
        ink.box(x, y, layout.chip, 30, "agent", name)
        ink.text((x + 9, y + 20), name, "row", width=layout.chip - 12)
        ink.add("</g>")
    foot = (at.x + 18, at.y + at.height - 12)
    ink.text(foot, "", "alarm", slot="writers/all")
    ink.text(foot, "", "small", slot="writers/one")
