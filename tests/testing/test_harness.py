"""What a user's test sees of a service: rows, reads, outputs and time, without a broker and without waits."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import headrace
from headrace import errors
from headrace.testing import Advance, Crash, Join, Leave, PromiseBroken, Send, harness
from tests.testing.till import Balance, Bought, Printed, Returned, Till, open_till


async def test_what_was_sent_is_in_the_table_when_send_returns() -> None:
    till = open_till()
    async with harness(till.app) as h:
        await h.send(till.buys, Bought(7, 250), key=7)
        assert h.table("balances")[7] == Balance(250, 1)
        assert h.table(till.balances).rows() == {7: Balance(250, 1)}
        assert 8 not in h.table("balances")
        with pytest.raises(KeyError):
            h.table("balances")[8]


async def test_what_agents_send_to_each_other_is_handled_too_before_send_returns() -> None:
    till = open_till()
    async with harness(till.app, key="who") as h:
        await h.send(till.buys, Bought(7, 2_000))
        await h.send(till.buys, Bought(7, 10))
        assert h.sent(till.receipts) == [Printed(7, 2_000)]
        assert h.table("printed") == {7: 1}
        (receipt,) = h.deliveries(till.receipts)
        assert (receipt.key, receipt.value) == (7, Printed(7, 2_000))


async def test_reads_and_routes_answer_without_a_socket() -> None:
    till = open_till()
    async with harness(till.app) as h:
        answer = await h.http.post("/purchases", json={"type": "Bought", "who": 7, "cents": 250})
        assert (answer.status_code, answer.json()) == (202, {"cents": 250})
        assert (await h.http.get("/balances/7")).json() == {"cents": 250, "visits": 1}
        assert (await h.http.get("/balances/8")).status_code == 404
        page = (await h.http.get("/balances")).json()
        assert page["rows"] == [{"key": 7, "value": {"cents": 250, "visits": 1}}]


async def test_a_client_outlives_the_crash_of_its_worker() -> None:
    till = open_till()
    async with harness(till.app, key="who") as h:
        await h.send(till.buys, Bought(7, 250))
        client = h.http
        assert (await client.get("/balances/7")).json()["visits"] == 1
        await h.run([Crash(), Bought(7, 1)])
        assert (await client.get("/balances/7")).json() == {"cents": 251, "visits": 2}


async def test_an_event_of_which_nobody_says_the_key_is_refused() -> None:
    till = open_till()
    async with harness(till.app) as h:
        with pytest.raises(errors.DeclarationError, match="needs a key"):
            await h.send(till.buys, Bought(7, 1))


async def test_an_event_that_no_topic_takes_is_refused_by_name() -> None:
    till = open_till()
    async with harness(till.app, key="who") as h:
        with pytest.raises(errors.DeclarationError, match="0 topics take a int"):
            await h.run([3])
        await h.run([Bought(1, 1), Returned(1, 1)])
        assert h.table("balances") == {1: Balance(0, 1)}


async def test_of_several_topics_that_take_an_event_it_goes_to_the_one_that_is_read() -> None:
    till = open_till()
    archive = till.app.topic("archive", key_type=int, value_type=Bought, partitions=2)
    async with harness(till.app, key="who") as h:
        await h.run([Bought(1, 1)])
        assert h.sent(archive) == []

        @till.app.agent(archive)
        async def read(events: headrace.Stream[Bought]) -> None:
            async for _ in events:
                pass

        with pytest.raises(errors.DeclarationError, match="2 topics take a Bought: buys, archive"):
            await h.run([Bought(1, 1)])
        await h.run([Send("archive", Bought(1, 1))])
        assert h.sent(archive) == [Bought(1, 1)]


async def test_a_table_of_nobody_is_refused() -> None:
    till, other = open_till(), open_till()
    async with harness(till.app) as h:
        with pytest.raises(errors.DeclarationError, match="table nothing is not declared"):
            h.table("nothing")
        with pytest.raises(errors.DeclarationError, match="table balances is not declared"):
            h.table(other.balances)


def with_timers(till: Till) -> Till:
    @till.app.timer(10.0)
    async def every_ten() -> None:
        till.ticks.append("ten")
        await till.buys.send(key=1, value=Bought(1, 5))

    @till.app.task
    async def once() -> None:
        till.ticks.append("start")
        await till.buys.send(key=2, value=Bought(2, 1))

    return till


async def test_timers_tick_when_the_test_lets_time_pass_and_not_before() -> None:
    till = with_timers(open_till())
    async with harness(till.app) as h:
        assert till.ticks == ["start"]
        assert h.table("balances") == {2: Balance(1, 1)}
        await h.advance(9.9)
        assert till.ticks == ["start"]
        await h.advance(20.2)
        assert till.ticks == ["start", "ten", "ten", "ten"]
        assert h.table("balances")[1] == Balance(15, 3)
        assert till.app.current is not None
    assert till.app.current is None


async def test_cron_lines_tick_at_the_time_of_their_zone() -> None:
    till = open_till()

    @till.app.crontab("0 3 * * *", timezone=ZoneInfo("Europe/Paris"))
    async def at_three(app: headrace.App) -> None:
        assert app is till.app
        till.ticks.append("three")

    async with harness(till.app) as h:
        assert datetime.fromtimestamp(h.clock.time(), UTC) == datetime(2026, 1, 1, tzinfo=UTC)
        await h.advance(2 * 3600 - 1)
        assert "three" not in till.ticks
        await h.run([Advance(1.0)])
        assert till.ticks.count("three") == 1
        await h.advance(24 * 3600)
        assert till.ticks.count("three") == 2


async def test_what_a_timer_raises_reaches_the_test() -> None:
    till = open_till()

    @till.app.timer(1.0)
    async def fail() -> None:
        raise LookupError("no such thing")

    async with harness(till.app) as h:
        with pytest.raises(LookupError, match="no such thing"):
            await h.advance(1.0)


async def test_several_workers_share_the_partitions_and_the_table_is_all_of_them() -> None:
    till = open_till(partitions=4)
    async with harness(till.app, workers=2, key="who") as h:
        assert [len(worker.views()) for worker in h.workers] == [2, 2]
        await h.run([Bought(who, 1) for who in range(20)])
        assert h.table("balances") == {who: Balance(1, 1) for who in range(20)}
        await h.run([Join()])
        assert sorted(len(worker.views()) for worker in h.workers) == [1, 1, 2]
        await h.run([Bought(1, 1), Leave(), Leave(), Bought(2, 1)])
        assert [len(worker.views()) for worker in h.workers] == [4]
        assert h.table("balances")[1] == h.table("balances")[2] == Balance(2, 2)
        await h.check()


async def test_tables_may_be_files(tmp_path: Path) -> None:
    till = open_till()
    async with harness(till.app, key="who", rocksdb=tmp_path) as h:
        await h.send(till.buys, Bought(7, 250))
        assert h.table("balances") == {7: Balance(250, 1)}
    assert list((tmp_path / "till-0").iterdir())


async def test_an_app_may_be_under_test_twice_at_once() -> None:
    till = open_till()
    async with harness(till.app, key="who") as one, harness(till.app, key="who") as two:
        await one.send(till.buys, Bought(7, 1))
        await two.send(till.buys, Bought(7, 2))
        assert one.table("balances")[7] == Balance(1, 1)
        assert two.table("balances")[7] == Balance(2, 1)


async def test_a_harness_without_an_app_is_refused() -> None:
    with pytest.raises(errors.DeclarationError, match="needs an app"):
        async with harness():
            pass


async def test_an_agent_that_keeps_something_outside_of_tables_is_found_out() -> None:
    app = headrace.App("forgetful")
    buys: headrace.Topic[int, Bought] = app.topic("buys", key_type=int, value_type=Bought, partitions=1)
    totals: headrace.Table[int, int] = app.Table("totals", key_type=int, default=int)
    kept: dict[int, int] = {}

    @app.agent(buys)
    async def add(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            kept[event.who] = kept.get(event.who, 0) + event.cents
            totals[event.who] = kept[event.who]

    async with harness(app, key="who") as h:
        await h.run([Bought(1, 1), Bought(1, 2)])
        with pytest.raises(PromiseBroken, match=r"the row 1 of totals is 3 and by the fold of its events 6"):
            await h.check()


async def test_a_worker_that_stands_still_handles_nothing_and_holds_nobody_up() -> None:
    till = open_till()
    async with harness(till.app, key="who") as h:
        await h.send(till.buys, Bought(7, 250))
        (worker,) = h.workers
        worker.stand_still()
        await h.run([Bought(7, 1), Bought(8, 2)])
        assert h.table(till.balances).rows() == {7: Balance(250, 1)}
        assert (await h.http.get("/balances/7")).json() == {"cents": 250, "visits": 1}
        worker.go_on()
        await h.quiet()
        assert h.table(till.balances).rows() == {7: Balance(251, 2), 8: Balance(2, 1)}


async def test_a_worker_that_stands_still_can_be_killed_and_stopped() -> None:
    till = open_till()
    async with harness(till.app, key="who") as h:
        h.workers[0].stand_still()
        await h.run([Bought(7, 1), Crash()])
        assert not h.workers[0].is_standing
        assert h.table(till.balances).rows() == {7: Balance(1, 1)}
        h.workers[0].stand_still()
