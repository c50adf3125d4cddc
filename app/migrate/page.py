"""The page of a migration: the old picture turns into the new one, with live figures."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from html import escape

from starlette.types import Receive, Scope, Send

from app.migrate.picture import DESK, PHONE, draw
from app.migrate.shown import shape, shown
from app.migrate.status import Load, Status
from headrace.http.problems import NOT_FOUND
from headrace.http.sse import Streams, event
from headrace.http.whiteboard.feed import Follower
from headrace.http.whiteboard.page import document, fingerprint, live, pill
from headrace.http.whiteboard.whiteboard import FEED, HTML_HEADERS, send_document

_STREAMS_MAX = 50
_EVERY_S = 0.5
_ENDING = event("ended", b'{"error":"MigrationEnded"}')
_WHO = {
    "checkout": "checkout",
    "promotions": "promotions",
    "loyalty": "loyalty, the old service",
    "bridge": "relay and applier",
    "own": "loyalty, shadow reads",
}


class MigrationPage:
    """The ASGI application."""

    def __init__(self, status: Status) -> None:
        self.streams = Streams(_STREAMS_MAX, count=lambda _: None)
        self._status = status
        self._news = News(lambda: shown(status), lambda: shape(status))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"].encode():
            case b"/":
                await send_document(send, page_of(self._status), *HTML_HEADERS)
            case path if path == FEED:
                async with self._news.following() as follower:
                    await self.streams.respond(follower, _ENDING, receive, send)
            case _:
                await NOT_FOUND.send(send)


class News:
    """Looks twice a second, as long as somebody follows (whiteboard.feed.Told)."""

    def __init__(self, look: Callable[[], Mapping[str, str]], shape_of: Callable[[], str]) -> None:
        self.changed = asyncio.Event()
        self.readings: Mapping[str, str] = {}
        self.shape = ""
        self._look = look
        self._shape_of = shape_of
        self._followers = 0
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Follower]:
        """Keeps it going for the time of the block."""
        self._followers += 1
        if self._looking is None:
            self._tell()
            self._looking = asyncio.create_task(self._go_on(), name="news of the migration")
        try:
            yield Follower(self)
        finally:
            self._followers -= 1
            if not self._followers and self._looking is not None:
                self._looking.cancel()
                await asyncio.wait({self._looking})
                self._looking = None

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            self._tell()

    def _tell(self) -> None:
        self.readings, self.shape = self._look(), fingerprint(self._shape_of())
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


def page_of(status: Status) -> bytes:
    """The whole page as of now."""
    readings = shown(status)
    inside = (
        f"<header><h1>Leaving the shared database</h1>{pill('migration', readings)}"
        f'<span class="worker"{live(readings, "step")}</span></header>{_tiles(readings)}'
        f'<section class="sheet picture desk">{draw(DESK, readings, "wide")}</section>'
        f'<section class="sheet picture phone">{draw(PHONE, readings, "narrow")}</section>'
        f'<div class="two"><section class="sheet"><h2>Steps</h2>{_steps(status)}'
        f'<p class="hint"{live(readings, "trade")}</p></section>'
        f'<section class="sheet"><h2>Statements per second on the shared database</h2>'
        f"{_loads(status, readings)}</section></div>"
        f'<section class="sheet telling"><h2>Compared</h2>{_checks(status)}</section>'
    )
    return document("Leaving the shared database", inside, shape(status))


def _tiles(readings: Mapping[str, str]) -> str:
    tiles = (
        ("Statements/s on the database", "tile/load", ""),
        ("Reads of loyalty go to", "tile/reads", ""),
        ("Shadow reads that differ", "tile/shadow", "data-count"),
        ("Reads answered wrongly", "tile/wrong", "data-count"),
    )
    cells = "".join(
        f'<div class="tile"><dt>{name}</dt><dd{live(readings, slot, attribute)}</dd></div>'
        for name, slot, attribute in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _steps(status: Status) -> str:
    items = "".join(f"<li>{escape(step)}</li>" for step in status.steps)
    return f'<ol class="story">{items}</ol>'


def _loads(status: Status, readings: Mapping[str, str]) -> str:
    def figure(load: Load | None, name: str) -> str:
        return "-" if load is None else f"{load.statements_per_s.get(name, 0.0):,.0f}"

    def total(load: Load | None) -> str:
        return "-" if load is None else f"{load.total:,.0f}"

    rows = "".join(
        f'<tr><td>{escape(words)}</td><td class="n">{figure(status.before, name)}</td>'
        f'<td class="n"{live(readings, f"who/{name}")}</td>'
        f'<td class="n">{figure(status.after, name)}</td></tr>'
        for name, words in _WHO.items()
    )
    return (
        '<table><thead><tr><th>Who sends them</th><th class="n">Before</th><th class="n">Now</th>'
        f'<th class="n">After</th></tr></thead><tbody>{rows}<tr><td><b>All</b></td>'
        f'<td class="n"><b>{total(status.before)}</b></td><td class="n"{live(readings, "tile/load")}</td>'
        f'<td class="n"><b>{total(status.after)}</b></td></tr></tbody></table>'
    )


def _checks(status: Status) -> str:
    rows = "".join(
        f"<tr><td>Every household, {escape(each.name)}</td><td>{each.households:,} households "
        f'at {each.facts:,} facts</td><td class="n">{"exact" if each.is_exact else "NOT EXACT"}</td></tr>'
        for each in status.checkpoints
    )
    rows += "".join(
        f"<tr><td>headrace bridge diff {escape(each['table'])}</td><td>{each['compared']:,} rows</td>"
        f'<td class="n">{each["missing"] + each["extra"] + each["different"]:,} differ</td></tr>'
        for each in status.diffs
    )
    return f"<table><tbody>{rows}</tbody></table>" if rows else '<p class="hint">Nothing yet.</p>'
