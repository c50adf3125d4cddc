"""SVG by hand: boxes with a slightly unsteady line, queues, tables, arrows, and text that fits."""

from collections.abc import Mapping
from html import escape
from zlib import crc32

_CHARACTER = 0.56
"""Average width of a character of a system font, by its size."""
_BOW = 1.3
"""How far a hand-drawn edge bends, in pixels."""


class Ink:
    """Collects the markup of one picture; what changes is marked with its slot."""

    def __init__(self, readings: Mapping[str, str], name: str) -> None:
        self.name = name
        """Keeps the ids of several pictures on one page apart."""
        self._readings = readings
        self._attributes: dict[str, list[tuple[str, str]]] = {}
        for slot, text in readings.items():
            name, tab, attribute = slot.partition("\t")
            if tab:
                self._attributes.setdefault(name, []).append((attribute, text))
        self._parts: list[str] = []

    def markup(self) -> str:
        """All that was drawn."""
        return "".join(self._parts)

    def add(self, markup: str) -> None:
        """Put markup in as it is."""
        self._parts.append(markup)

    def live(self, slot: str) -> str:
        """The attributes that an element with this slot has now, and its mark."""
        now = "".join(f' {name}="{escape(text)}"' for name, text in self._attributes.get(slot, ()))
        return f' data-slot="{escape(slot)}"{now}'

    def text(
        self,
        at: tuple[float, float],
        words: str = "",
        kind: str = "",
        *,
        slot: str = "",
        width: float = 0.0,
        size: float = 13.0,
    ) -> None:
        """One line; words that are wider than `width` are cut, and told in full when pointed at."""
        mark = self.live(slot) if slot else ""
        words = self._readings.get(slot, words) if slot else words
        shown = fitted(words, width, size) if width else words
        whole = f"<title>{escape(words)}</title>" if shown != words else ""
        x, y = at
        self.add(f'<text x="{x:g}" y="{y:g}" class="{kind}"{mark}>{escape(shown)}{whole}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, name: str) -> None:
        """A box as one draws it on a whiteboard; the same name gives the same line."""
        self.add(f'<path class="{kind}" d="{_sketched(x, y, width, height, name)}"/>')

    def arrow(self, start: tuple[float, float], end: tuple[float, float], kind: str, *, slot: str) -> None:
        """An arrow to the right; dots run along it at the pace of its slot."""
        (x1, y1), (x2, y2) = start, end
        bend = max(28.0, abs(x2 - x1) * 0.45)
        self.path(f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}", kind, slot=slot)

    def path(self, d: str, kind: str, *, slot: str) -> None:
        """An arrow along any path."""
        self.add(
            f'<g class="arrow {kind}"{self.live(slot)}>'
            f'<path class="line" d="{d}" marker-end="url(#{escape(self.name)}-{kind})"/>'
            f'<path class="dots" d="{d}"/></g>'
        )


def fitted(words: str, width: float, size: float) -> str:
    """The words, cut with an ellipsis where they would be wider than so many pixels."""
    characters = int(width / (size * _CHARACTER))
    return words if len(words) <= characters else words[: max(1, characters - 1)].rstrip() + "…"


def _sketched(x: float, y: float, width: float, height: float, name: str) -> str:
    corner = 9.0
    right, bottom = x + width, y + height
    seed = crc32(name.encode())
    bows = [((seed >> shift) % 256 / 127.5 - 1) * _BOW for shift in (0, 8, 16, 24)]
    middle_x, middle_y = x + width / 2, y + height / 2
    return (
        f"M{x + corner:g} {y:g}Q{middle_x:g} {y + bows[0]:.1f} {right - corner:g} {y:g}"
        f"Q{right:g} {y:g} {right:g} {y + corner:g}"
        f"Q{right + bows[1]:.1f} {middle_y:g} {right:g} {bottom - corner:g}"
        f"Q{right:g} {bottom:g} {right - corner:g} {bottom:g}"
        f"Q{middle_x:g} {bottom + bows[2]:.1f} {x + corner:g} {bottom:g}"
        f"Q{x:g} {bottom:g} {x:g} {bottom - corner:g}"
        f"Q{x + bows[3]:.1f} {middle_y:g} {x:g} {y + corner:g}"
        f"Q{x:g} {y:g} {x + corner:g} {y:g}Z"
    )
