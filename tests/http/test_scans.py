"""Scans: every row once and in key order, page by page, or no page at all."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headrace.errors import StoreCorrupt
from headrace.events.position import Position
from headrace.events.token import Token
from headrace.http.source import ServedTable
from headrace.settings import Settings
from headrace.tables.store import Snapshot
from headrace.tables.view import FrozenView, PartitionView, ViewState
from tests.http.service import Service, ask, client, served

ints = served("ints", int)
strs = served("strs", str)
blobs = served("blobs", bytes)
pairs = served("pairs", tuple[int, str])


def filled(table: ServedTable, keys: list[Any], **options: Any) -> Service:
    service = Service(table, **options)
    for key in keys:
        service.put(table, key, {"of": repr(key)})
    return service


async def keys_of(service: Service, path: str) -> list[Any]:
    async with client(service) as http:
        answer = await http.get(path)
    assert answer.status_code == 200, answer.text
    return [row["key"] for row in answer.json()["rows"]]


async def pages(http: httpx.AsyncClient, path: str, **params: Any) -> list[list[Any]]:
    found: list[list[Any]] = []
    while True:
        page = (await http.get(path, params=params)).json()
        found.append([row["key"] for row in page["rows"]])
        if page["cursor"] is None:
            return found
        params["cursor"] = page["cursor"]


async def test_rows_of_all_partitions_come_in_key_order() -> None:
    keys = [5, -3, 1029, 0, 77, -2000, 2**70]
    service = filled(ints, keys)
    assert len({service.partition(ints, key) for key in keys}) > 1
    assert await keys_of(service, "/ints") == sorted(keys)


async def test_a_row_holds_its_key_as_json_and_its_stored_value() -> None:
    service = Service(pairs)
    service.put(pairs, (7, 'a"ü'), {"points": [1, 2]})
    async with client(service) as http:
        assert (await http.get("/pairs")).json() == {
            "rows": [{"key": [7, 'a"ü'], "value": {"points": [1, 2]}}],
            "cursor": None,
        }


async def test_start_is_part_of_the_range_and_end_is_not() -> None:
    service = filled(ints, list(range(10)))
    assert await keys_of(service, "/ints?start=3&end=6") == [3, 4, 5]
    assert await keys_of(service, "/ints?start=8") == [8, 9]
    assert await keys_of(service, "/ints?end=2") == [0, 1]
    assert await keys_of(service, "/ints?start=6&end=3") == []


async def test_a_prefix_selects_text_and_bytes_keys() -> None:
    service = filled(strs, ["a", "ab", "abc", "b", "a\U0010ffff", "ä b"])
    assert await keys_of(service, "/strs?prefix=ab") == ["ab", "abc"]
    assert await keys_of(service, "/strs?prefix=ab&start=abc") == ["abc"]
    assert await keys_of(service, "/strs?prefix=%C3%A4+b") == ["ä b"]
    assert await keys_of(service, "/strs?prefix=") == sorted(["a", "ab", "abc", "b", "a\U0010ffff", "ä b"])
    assert await keys_of(filled(blobs, [b"\xff", b"\xff\xff", b"\xfe"]), "/blobs?prefix=_w") == ["_w", "__8"]


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 25])
async def test_pages_hold_every_row_once(limit: int) -> None:
    keys = [f"key-{number:02}" for number in range(25)]
    service = filled(strs, keys)
    async with client(service) as http:
        found = await pages(http, "/strs", limit=limit)
        assert [key for page in found for key in page] == keys
        assert all(len(page) == limit for page in found[:-1])
        assert [
            key for page in await pages(http, "/strs", limit=limit, prefix="key-1") for key in page
        ] == keys[10:20]


async def test_a_key_and_its_extensions_are_not_lost_between_pages() -> None:
    keys = ["a", "a\x01", "aa", "ab"]
    async with client(filled(strs, keys)) as http:
        assert await pages(http, "/strs", limit=1) == [["a"], ["a\x01"], ["aa"], ["ab"]]


async def test_a_page_has_at_most_as_many_rows_as_the_settings_say() -> None:
    service = filled(ints, list(range(30)), settings=Settings(page_rows_max=20, page_rows_default=10))
    assert len(await keys_of(service, "/ints")) == 10
    assert len(await keys_of(service, "/ints?limit=20")) == 20
    assert len(await keys_of(service, "/ints?limit=999999999")) == 20


@pytest.mark.parametrize(
    "query",
    [
        b"limit=0", b"limit=-1", b"limit=", b"limit=x", b"limit=1.5", b"limit=1&limit=2", b"limit", b"&",
        b"start=x", b"end=", b"end=01", b"prefix=1", b"strat=5", b"start=1%", b"start=%00", b"start=%ff",
        b"cursor=", b"cursor=x", b"cursor=%21%21", b"cursor=AGludHMAgA", b"cursor=AXN0cnMAYQ",
    ],
)  # fmt: skip
async def test_a_query_that_is_not_understood_is_400(query: bytes) -> None:
    answer = await ask(filled(ints, [1, 2]), b"/ints?" + query)
    assert (answer.status, answer.headers[b"content-type"]) == (400, b"application/problem+json")


async def test_a_cursor_belongs_to_its_table() -> None:
    service = Service(strs, blobs)
    for key in ("a", "b"):
        service.put(strs, key, 1)
        service.put(blobs, key.encode(), 1)
    async with client(service) as http:
        cursor = (await http.get("/strs?limit=1")).json()["cursor"]
        assert (await http.get("/strs", params={"cursor": cursor})).status_code == 200
        assert (await http.get("/blobs", params={"cursor": cursor})).status_code == 400


async def test_tables_that_share_a_store_do_not_share_rows() -> None:
    longer = served("strs2", str)
    service = Service(strs, longer)
    service.put(strs, "a", 1)
    service.put(longer, "b", 1)
    assert await keys_of(service, "/strs") == ["a"]
    assert await keys_of(service, "/strs2") == ["b"]


async def test_a_page_names_the_position_of_all_its_partitions() -> None:
    service = Service(ints)
    for key in range(20):
        service.put(ints, key, key, offset_next=key + 1)
    expected = Position()
    for view in service.views():
        expected = expected.merge(view.position)
    async with client(service) as http:
        answer = await http.get("/ints")
    assert Token.parse(answer.headers["Headrace-Position"]).located(service.catalog) == expected


@pytest.mark.parametrize(
    ("state", "error"),
    [(ViewState.RESTORING, "StillRecovering"), (ViewState.CLOSED, "NotOwner"), (None, "NotOwner")],
)
async def test_a_page_is_never_partial(state: ViewState | None, error: str) -> None:
    service = filled(ints, list(range(20)))
    watch = watch_snapshots(service)
    if state is None:
        del service.owned[3]
    else:
        service.owned[3].close(state)
    async with client(service) as http:
        answer = await http.get("/ints")
    assert (answer.status_code, answer.json()["error"]) == (503, error)
    assert (watch.opened, watch.closed) == ((0, 0) if state is None else (3, 3))


async def test_a_corrupt_file_never_shortens_a_page() -> None:
    service = filled(ints, list(range(20)))
    watch = watch_snapshots(service, failure=StoreCorrupt("bad block"))
    async with client(service) as http:
        assert (await http.get("/ints")).status_code == 503
    assert (watch.opened, watch.closed) == (4, 4)


async def test_a_cancelled_scan_closes_its_snapshots() -> None:
    service = filled(ints, list(range(20)))
    watch = watch_snapshots(service, gate=threading.Event())
    reading = asyncio.create_task(ask(service, b"/ints"), name="scan")
    await watch.entered.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert watch.gate is not None
    watch.gate.set()
    await watch.all_closed.wait()
    assert watch.closed == 4


class Watch:
    """Tells when snapshots are read and closed; a read can wait for a gate, or fail at its end."""

    def __init__(self, gate: threading.Event | None, failure: Exception | None) -> None:
        self.gate, self.failure = gate, failure
        self.opened = self.closed = 0
        self.entered, self.all_closed = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def enter(self) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        if self.gate is not None:
            self.gate.wait(10)

    def close(self) -> None:
        self.closed += 1
        if self.closed == self.opened:
            self._loop.call_soon_threadsafe(self.all_closed.set)


class WatchedView(PartitionView):
    watch: Watch

    def freeze(self) -> FrozenView:
        frozen = super().freeze()
        self.watch.opened += 1
        return FrozenView(WatchedSnapshot(frozen._snapshot, self.watch), frozen._layers, frozen.position)


class WatchedSnapshot:
    def __init__(self, inner: Snapshot, watch: Watch) -> None:
        self.inner, self.watch = inner, watch

    def get(self, key: bytes) -> bytes | None:
        return self.inner.get(key)

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        self.watch.enter()
        yield from self.inner.scan(start, end)
        if self.watch.failure is not None:
            raise self.watch.failure

    def close(self) -> None:
        self.inner.close()
        self.watch.close()


def watch_snapshots(
    service: Service, *, gate: threading.Event | None = None, failure: Exception | None = None
) -> Watch:
    watch = Watch(gate, failure)
    for view in service.owned.values():
        view.__class__ = WatchedView
        assert isinstance(view, WatchedView)
        view.watch = watch
    return watch
