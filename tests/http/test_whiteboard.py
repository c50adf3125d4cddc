"""What the whiteboard tells: figures as people read them, rows that are counted, a feed of what changed."""

import asyncio
import hashlib
import json
import re

import pytest

from headrace.events.position import TopicPartition
from headrace.http.application import build_application
from headrace.http.whiteboard.board import AgentCard, Board, PartitionCard, TableCard, TopicCard
from headrace.http.whiteboard.census import Census
from headrace.http.whiteboard.drawing import draw_narrow, draw_wide
from headrace.http.whiteboard.page import SCRIPT, SECURITY_POLICY, STYLE
from headrace.http.whiteboard.rates import Rates, sample
from headrace.http.whiteboard.readings import duration, number, pace, per_second, readings
from headrace.settings import Settings
from headrace.tables.view import HeldInput, ViewState
from tests.http.service import GROUP, INPUT, NOW_S, Service, ask, served
from tests.http.stream import streaming

BALANCES = served("balances", int)
BROWSER = (b"accept", b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (9_412, "9,412"),
        (99_999, "99,999"),
        (100_000, "100k"),
        (1_270_000, "1.27M"),
        (4 * 10**9, "4.00G"),
    ],
)
def test_counts_are_short(count: int, text: str) -> None:
    assert number(count) == text


def test_a_rate_that_is_not_known_is_not_zero() -> None:
    assert per_second(None) != per_second(0.0)
    assert (per_second(0.0), per_second(0.4), per_second(1234.4)) == ("0/s", "0.4/s", "1,234/s")
    assert [pace(rate) for rate in (None, 0.0, 0.5, 9.0, 10.0, 900.0, 1e9)] == [
        "0",
        "0",
        "1",
        "1",
        "2",
        "3",
        "5",
    ]


def test_rates_are_differences_over_time_and_a_new_worker_counts_from_zero() -> None:
    def board(events: int) -> Board:
        topic = TopicCard(name="t", partitions=1, groups=(GROUP,), events_read=events)
        agent = AgentCard(name="a", group=GROUP, topic="t", events=events)
        return Board(app="x", instance="i", state="running", topics=(topic,), agents=(agent,))

    rates = Rates(sample(board(100), 10.0), sample(board(300), 12.0))
    assert (rates.read("t"), rates.agent("a"), rates.all_events) == (100.0, 100.0, 100.0)
    assert Rates(sample(board(100), 10.0), sample(board(3), 11.0)).read("t") == 0.0
    assert Rates(None, sample(board(3), 1.0)).all_events is None


async def test_rows_are_counted_to_the_last_one_in_bounded_steps() -> None:
    other = served("other", str)
    service = Service(BALANCES, other)
    for key in range(250):
        service.put(BALANCES, key, {"points": key})
    for key in range(0, 250, 5):
        service.put(BALANCES, key, None)
    service.put(other, "a", 1)
    census = Census(service.view, rows_per_step=30)
    shown = []
    for _ in range(30):
        board = service.board()
        await census.step(board)
        shown.append(census.filled(board).tables[0])
    assert all(table.rows is None or table.rows <= 200 for table in shown)
    assert (shown[-1].rows, shown[-1].is_counted) == (200, True)
    assert not shown[0].is_counted
    assert census.filled(service.board()).tables[1].rows == 1


async def test_partitions_that_are_restored_or_gone_are_not_counted_as_empty() -> None:
    service = Service(BALANCES)
    for key in range(50):
        service.put(BALANCES, key, {"points": key})
    census = Census(service.view)
    await census.step(service.board())
    for view in service.owned.values():
        view.close(ViewState.RESTORING)
    board = service.board()
    await census.step(board)
    assert census.filled(board).tables[0].rows is None


def test_a_partition_that_restores_tells_how_far_and_one_that_stopped_why() -> None:
    board = Board(
        app="x",
        instance="i",
        state="running",
        partitions=(
            PartitionCard(group="main", number=0, state="restoring", restored=30, to_restore=40),
            PartitionCard(group="main", number=1, state="stopped", error="TooManyDeadLetters"),
            PartitionCard(group="main", number=2, state="elsewhere"),
        ),
    )
    shown = readings(board, Rates())
    assert shown["x/task/main/0/state"] == "restoring 75%"
    assert shown["x/restore-text"].startswith("Restoring 1 of 2 partitions: 75%")
    assert shown["x/task/main/1/state"] == "stopped: TooManyDeadLetters"
    assert shown["x/state"] == "stopped"
    assert shown["x/partitions"] == "0 of 3"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_time_is_told_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_an_input_that_waits_is_shown_with_how_long_and_for_what() -> None:
    service = Service(BALANCES)
    view = service.owned[0]
    view.held = {TopicPartition(INPUT, 0): HeldInput(NOW_S - 75, 12, {TopicPartition("other", 0): 1_018})}
    (held,) = service.board().partitions[0].held
    assert (held.topic, held.offset, held.since_s, held.for_s) == (INPUT, 12, NOW_S - 75, 75)
    text = f"{INPUT} 12 has waited 1 min 15 s for other/0 up to 1,018"
    assert readings(service.board(), Rates())[f"loyalty/task/{GROUP}/0/held"] == text
    assert text in (await ask(service, b"/", BROWSER)).body.decode()
    view.held = {}
    assert readings(service.board(), Rates())[f"loyalty/task/{GROUP}/0/held"] == ""


def test_both_pictures_hold_every_card_and_escape_what_is_in_them() -> None:
    hostile = "<script>&\"'"
    board = Board(
        app="x",
        instance="i",
        state="running",
        topics=(TopicCard(name="in", partitions=90, groups=("main",)), TopicCard(name="out", partitions=1)),
        agents=(
            AgentCard(
                name="loop", group="main", topic="in", writes=(hostile,), sends=("in", "out"), about=hostile
            ),
        ),
        tables=(TableCard(name=hostile, group="main"),),
        partitions=tuple(PartitionCard(group="main", number=n, state="serving") for n in range(90)),
        dead_letters_topic="x.dead-letters",
    )
    for draw in (draw_wide, draw_narrow):
        picture = draw(board, readings(board, Rates()))
        assert "<script>" not in picture
        for name in ("in", "out", "loop", "&lt;script&gt;&amp;", "x.dead-letters"):
            assert name in picture


async def test_people_get_a_page_and_programs_get_json() -> None:
    service = Service(BALANCES)
    page = await ask(service, b"/", BROWSER)
    assert page.headers[b"content-type"] == b"text/html; charset=utf-8"
    assert b"<svg" in page.body
    assert json.loads((await ask(service, b"/")).body)["app"] == "loyalty"
    board = json.loads((await ask(service, b"/whiteboard/board")).body)
    assert [table["name"] for table in board["tables"]] == ["balances"]


async def test_the_page_allows_nothing_but_itself() -> None:
    page = await ask(Service(BALANCES), b"/", BROWSER)
    policy = page.headers[b"content-security-policy"].decode()
    assert policy == SECURITY_POLICY
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(rb"(?:src|href)=\"?https?://", page.body) == []
    assert STYLE.encode() in page.body
    assert SCRIPT.encode() in page.body
    assert re.search(rb"<[a-z][^>]* style=", page.body) is None


async def test_strangers_get_a_door_and_no_figures() -> None:
    service = Service(BALANCES, settings=Settings(tokens=(hashlib.sha256(b"secret").hexdigest(),)))
    door = await ask(service, b"/", BROWSER)
    assert door.status == 401
    assert door.headers[b"www-authenticate"].startswith(b"Bearer")
    assert b"balances" not in door.body
    for path in (b"/whiteboard/board", b"/whiteboard/feed", b"/whiteboard/row?table=balances&key=1"):
        assert (await ask(service, path)).status == 401


async def test_the_feed_sends_what_changed_and_ends_with_the_worker() -> None:
    service = Service(BALANCES)
    application = build_application(service)
    application._whiteboard._feed._interval_s = 0.01
    async with streaming(application, "/whiteboard/feed") as stream:
        assert (await stream.event()).name == "shape"
        first = await stream.event()
        assert first.data["loyalty/table/balances/rows"] == "0"
        service.put(BALANCES, 7, {"points": 1})
        service.events_finished = 1
        changed: dict[str, str] = {}
        while changed.get("loyalty/table/balances/rows") != "1":
            changed |= (await stream.event()).data
        assert len(changed) < len(first.data) / 2, "only what changed is sent"
        application.end_streams()
        last = await stream.event()
        while last.name == "readings":
            last = await stream.event()
        assert last.name == "ended"
    names = [task.get_name() for task in asyncio.all_tasks()]
    assert "whiteboard feed" not in names


async def test_a_row_is_looked_up_with_its_place() -> None:
    service = Service(BALANCES)
    view = service.put(BALANCES, 7, {"points": 12345678901234567890}, offset_next=41)
    found = json.loads((await ask(service, b"/whiteboard/row?table=balances&key=7")).body)
    assert found["href"] == "/balances/7"
    assert found["partition"] == view.partition
    assert found["position"] == {f"checkout.events/{view.partition}": 41}
    assert "12345678901234567890" in found["row"]
    absent = json.loads((await ask(service, b"/whiteboard/row?table=balances&key=8")).body)
    assert absent["row"] is None
    for query in (b"", b"table=balances", b"key=1", b"table=none&key=1", b"table=balances&key=x", b"x=1"):
        assert (await ask(service, b"/whiteboard/row?" + query)).status == 400
    view.close(ViewState.RESTORING)
    assert (await ask(service, b"/whiteboard/row?table=balances&key=7")).status == 503
