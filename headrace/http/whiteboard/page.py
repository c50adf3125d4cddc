"""The page around the picture: figures, look-up and partitions, with nothing from another host."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from headrace.http.whiteboard.board import Board
from headrace.http.whiteboard.drawing import draw_narrow, draw_wide

_HERE = Path(__file__).parent
STYLE = _HERE.joinpath("style.css").read_text("utf-8")
SCRIPT = _HERE.joinpath("script.js").read_text("utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


# Also without a script the page shows what was so when it was asked for.
SECURITY_POLICY = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Only what stands in the page itself, and connections to the server that it came from."""

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cg fill='none' "
    "stroke='%231c5fc4' stroke-width='1.8'%3E%3Crect x='1.5' y='5' width='13' height='6' rx='2'/%3E"
    "%3Cpath d='M5.5 5v6M10.5 5v6'/%3E%3C/g%3E%3C/svg%3E"
)
_FEED = "/whiteboard/feed"


def page(board: Board, readings: Mapping[str, str]) -> bytes:
    """The whiteboard of one service."""
    app = escape(board.app)
    lookup = _lookup(board)
    inside = (
        f"<header><h1>{app}</h1>{pill(board.app, readings)}"
        f'<span class="worker">worker {escape(board.instance)}</span></header>'
        f"{_tiles(board, readings)}{_restore(board, readings)}"
        f'<section class="sheet picture" aria-label="Whiteboard">'
        f"{draw_wide(board, readings)}{draw_narrow(board, readings)}</section>"
        f'<div class="two">{lookup}{_partitions(board, readings)}</div>'
        f"{_shadows(board, readings)}"
        '<section class="sheet telling" aria-live="polite" hidden></section>'
        '<footer><a href="/openapi.json">openapi.json</a><a href="/metrics">metrics</a>'
        '<a href="/readyz">readiness</a><span>Figures are of this worker.</span>'
        "</footer>"
    )
    return document(board.app, inside, board.shape)


def door() -> bytes:
    """What somebody sees who has to show a token first."""
    return document(
        "headrace",
        '<section class="sheet"><h2>A token is needed here</h2>'
        '<p class="hint">It stays in this tab, and goes to this server only.</p>'
        '<form class="door"><label>Bearer token<input name="token" type="password" required '
        'autocomplete="off"></label><button>Open</button></form>'
        '<div class="answer" role="status"></div></section>',
        "",
    )


def document(title: str, inside: str, shape: str) -> bytes:
    """A whole HTML document; the shape tells its script when it is outdated."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="{_ICON}">'
        f"<style>{STYLE}</style></head>"
        f'<body data-shape="{fingerprint(shape)}" data-feed="{_FEED}"><main class="page">{inside}</main>'
        f"<script>{SCRIPT}</script></body></html>"
    ).encode()


def quoted(key: str) -> str:
    """A key as one segment of a URL."""
    # A browser takes a dot for "here", however it is written.
    return quote(key, safe="")


def fingerprint(shape: str) -> str:
    """A short text that is the same for the same boxes and arrows."""
    return hashlib.blake2b(shape.encode(), digest_size=8).hexdigest()


def pill(app: str, readings: Mapping[str, str]) -> str:
    """The state of a service in a word."""
    return f'<span class="pill" role="status"{live(readings, f"{app}/state", "data-state")}</span>'


def live(readings: Mapping[str, str], slot: str, *attributes: str) -> str:
    """The mark of an element and what it shows now, up to its end tag."""
    now = "".join(
        f' {name}="{escape(readings.get(slot + chr(9) + name, ""))}"' for name in attributes if name
    )
    return f' data-slot="{escape(slot)}"{now}>{escape(readings.get(slot, ""))}'


def _tiles(board: Board, readings: Mapping[str, str]) -> str:
    tiles: Sequence[tuple[str, str]] = (
        ("Events per second", "rate"),
        ("Events behind", "lag"),
        ("Partitions serving", "partitions"),
        ("Dead letters", "dead"),
    )
    cells = "".join(
        f'<div class="tile"><dt>{name}</dt>'
        f"<dd{live(readings, f'{board.app}/{slot}', *(['data-count'] if slot == 'dead' else []))}</dd></div>"
        for name, slot in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _restore(board: Board, readings: Mapping[str, str]) -> str:
    app = board.app
    return (
        f'<div class="restore"{live(readings, f"{app}/restore", "data-shown")}'
        f"<span{live(readings, f'{app}/restore-text')}</span>"
        f'<progress max="1" aria-label="Restore"{live(readings, f"{app}/restore-bar", "value")}'
        "</progress></div>"
    )


def _lookup(board: Board) -> str:
    served = [table for table in board.tables if table.path]
    if not served:
        return (
            '<section class="sheet"><h2>Look up a key</h2>'
            '<p class="hint">No table is served; app.serve(table, "/path") makes one readable.</p></section>'
        )
    options = "".join(f"<option>{escape(table.name)}</option>" for table in served)
    return (
        '<section class="sheet"><h2>Look up a key</h2><form class="lookup">'
        f'<label>Table<select name="table">{options}</select></label>'
        '<label>Key<input name="key" required autocomplete="off" spellcheck="false"></label>'
        "<button>Look up</button></form>"
        '<p class="hint">The row as committed, with its partition and the position it stands for.</p>'
        '<div class="answer" role="status"></div></section>'
    )


def _partitions(board: Board, readings: Mapping[str, str]) -> str:
    rows = []
    for card in board.partitions:
        slot = f"{board.app}/task/{card.group}/{card.number}"
        topics = [topic.name for topic in board.topics if card.group in topic.groups]
        offsets = "<br>".join(
            f"{escape(topic)} <span{live(readings, f'{slot}/{topic}/offset')}</span>" for topic in topics
        )
        state = escape(readings.get(f"{slot}\tdata-state", ""))
        rows.append(
            f"<tr><td>{escape(card.group)}/{card.number}</td>"
            f'<td data-slot="{escape(slot)}" data-state="{state}">'
            f"<span{live(readings, f'{slot}/state')}</span></td>"
            f'<td>{offsets}<div class="held"{live(readings, f"{slot}/held")}</div></td>'
            f'<td class="n"{live(readings, f"{slot}/lag")}</td></tr>'
        )
    return (
        '<section class="sheet"><h2>Partitions</h2><div class="scroll" tabindex="0" role="region" '
        'aria-label="Partitions"><table><thead><tr><th>Task</th><th>State</th><th>Position</th>'
        f'<th class="n">Lag</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div></section>'
    )


def _shadows(board: Board, readings: Mapping[str, str]) -> str:
    """What shadow reads have found, and the newest rows that differ; nothing where there are none."""
    if not board.shadows:
        return ""
    rows, found = [], []
    for card in board.shadows:
        slot = f"{board.app}/shadow/{card.table}"
        rows.append(
            f'<tr><td>{escape(card.table)}</td><td class="n"{live(readings, f"{slot}/compared")}</td>'
            f'<td class="n differing"{live(readings, f"{slot}/differing", "data-count")}</td>'
            f'<td class="n"{live(readings, f"{slot}/waiting")}</td>'
            f'<td class="n"{live(readings, f"{slot}/left")}</td></tr>'
        )
        found += [
            f"<tr><td>{escape(card.table)}</td><td>{escape(each.key)}</td>"
            f"<td>{'<br>'.join(f'{escape(at)} {offset:,}' for at, offset in each.position.items())}</td>"
            f"<td><code>{_answer(each.in_table)}</code></td>"
            f"<td><code>{_answer(each.in_database)}</code></td></tr>"
            for each in card.differences
        ]
    differences = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Rows that differ"><table><thead><tr>'
        "<th>Table</th><th>Key</th><th>At</th><th>The table says</th><th>The database says</th></tr></thead>"
        f"<tbody>{''.join(found)}</tbody></table></div>"
        if found
        else ""
    )
    return (
        '<section class="sheet shadows"><h2>Shadow reads</h2><p class="hint">The old database is asked the '
        'same as readers of a table, and both are compared at one position.</p><div class="scroll" '
        'tabindex="0" role="region" aria-label="Shadow reads"><table><thead><tr><th>Table</th>'
        '<th class="n">Compared</th><th class="n">Differing</th><th class="n">Waiting</th>'
        f'<th class="n">Not compared</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f"{differences}</section>"
    )


def _answer(text: str | None) -> str:
    return "no row" if text is None else escape(text)
