"""Scans: a page of rows of all partitions in key order, on snapshots, complete or refused."""

import asyncio
import heapq
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import NamedTuple

import msgspec
from starlette.types import Send

from headrace.errors import StillRecovering
from headrace.events.position import Position
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.http.consistency import POSITION, Asked
from headrace.http.problems import NOT_OWNED, RECOVERING, Problem, problem_of
from headrace.http.query import RowRange, cursor_of, parse_range
from headrace.http.reads import token_bytes
from headrace.http.source import ReadSource, ServedTable
from headrace.tables.view import FrozenView, PartitionView

_SCANS_AT_ONCE = 4
_ROWS_PER_TURN = 64


class _Page(NamedTuple):
    body: bytes
    position: Position
    seen: Seen
    frozen: Sequence[FrozenView]


class Scans:
    """`GET {path}?start=&end=&prefix=&limit=&cursor=` for one table."""

    def __init__(self, source: ReadSource, table: ServedTable) -> None:
        self._source = source
        self._table = table
        # Waiting scans hold no snapshot: a snapshot keeps old files of the store alive.
        self._turns = asyncio.Semaphore(_SCANS_AT_ONCE)

    async def respond(self, query: bytes, send: Send, asked: Asked | None = None) -> int:
        """Answer with one page; the result is the status."""
        settings = self._source.settings
        wanted = parse_range(
            query, self._table, rows_default=settings.page_rows_default, rows_max=settings.page_rows_max
        )
        if isinstance(wanted, Problem):
            return await wanted.send(send)
        views = self._views()
        if views is None:
            return await NOT_OWNED.send(send)
        if asked is not None:
            try:
                asked = await self._source.waits.reach(asked, views)
            except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
                return await self._source.waits.problem(error, views).send(send)
        try:
            async with self._turns:
                page = await self._page(wanted, views)
            token = token_bytes(page.position, self._source.catalog, page.seen)
            more = self._source.waits.headers(asked, page.frozen) if asked is not None else ()
        except StillRecovering:
            return await RECOVERING.send(send)
        except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
            return await problem_of(error).send(send)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(page.body)),
            (b"cache-control", b"no-cache"),
            (POSITION, token),
            *more,
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": page.body})
        return 200

    async def _page(self, wanted: RowRange, views: Sequence[PartitionView]) -> _Page:
        """A page of all partitions. Raises: as `PartitionView.freeze`.

        Cancel: the thread is told to end, and closes the snapshots when it does.
        """
        snapshots = ExitStack()
        try:
            frozen = [_frozen(view, snapshots) for view in views]
            position, seen = Position(), NOTHING_SEEN
            for view in frozen:
                position, seen = position.merge(view.position), seen.merge(view.seen)
            is_abandoned = threading.Event()
            loop = asyncio.get_running_loop()
            # Not `to_thread`: a cancel could take the call out of the queue, and nobody would close.
            scan = loop.run_in_executor(None, self._read, snapshots, frozen, wanted, is_abandoned)
        except BaseException:
            snapshots.close()
            raise
        try:
            return _Page(await asyncio.shield(scan), position, seen, frozen)
        except asyncio.CancelledError:
            is_abandoned.set()
            scan.add_done_callback(_retrieve)
            raise

    def _views(self) -> Sequence[PartitionView] | None:
        """All partitions, or none of them where one is not here."""
        group, numbers = self._table.group, range(self._table.partitions)
        views = [view for view in (self._source.view(group, n) for n in numbers) if view is not None]
        return views if len(views) == len(numbers) else None

    def _read(
        self,
        snapshots: ExitStack,
        frozen: Sequence[FrozenView],
        wanted: RowRange,
        is_abandoned: threading.Event,
    ) -> bytes:
        """The page as JSON; runs in a thread and closes the snapshots in any case."""
        keys, prefix_size = self._table.keys, len(self._table.row_prefix)
        renewed = self._table.renewed
        parts: list[bytes] = []
        last = b""
        has_more = False
        merged = heapq.merge(*(view.scan(wanted.start, wanted.end) for view in frozen))
        with snapshots, closing(merged) as rows:
            for key, row in rows:
                if len(parts) == wanted.rows_max:
                    has_more = True
                    break
                if len(parts) % _ROWS_PER_TURN == 0:
                    if is_abandoned.is_set():
                        break
                    # Hands the interpreter to the loop, which would else wait up to 5 ms for it.
                    time.sleep(0)
                shown = msgspec.json.encode(keys.to_json(keys.from_store(key[prefix_size:])))
                value = row if renewed is None else renewed(row)
                parts.append(b'{"key":' + shown + b',"value":' + value + b"}")
                last = key
        cursor = b'"' + cursor_of(last) + b'"' if has_more else b"null"
        return b'{"rows":[' + b",".join(parts) + b'],"cursor":' + cursor + b"}"


def _frozen(view: PartitionView, snapshots: ExitStack) -> FrozenView:
    frozen = view.freeze()
    snapshots.callback(frozen.close)
    return frozen


def _retrieve(scan: "asyncio.Future[bytes]") -> None:
    """Nobody waits for an abandoned scan any more; what it failed with is still logged."""
    if not scan.cancelled() and (error := scan.exception()) is not None:
        problem_of(error)
