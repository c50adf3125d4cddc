"""Agents that write a database: every event once, whoever fails on the way."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace import Settings, bridge
from headrace.bridge.batch import Kind
from headrace.bridge.database import connect
from headrace.bridge.session import Session
from headrace.bridge.sqlsink import OpenSqlSink, SqlSink
from headrace.errors import (
    ApplierFenced,
    CommitInDoubt,
    CommitUnknown,
    DatabaseUnavailable,
    DeclarationError,
    OutsideAgent,
)
from headrace.flow.settling import Settling
from headrace.flow.unit import SealedUnit
from headrace.log.simulated.log import SimulatedLog
from headrace.tables.changelog import InputPosition, PositionRecord
from headrace.testing.postgres_server import PostgresServer
from tests.bridge.databases import KINDS, address, rows, run
from tests.service import Service, quick, running

PARTITIONS = 2


class Sold(headrace.Event, frozen=True):
    """Something was sold off a shelf."""

    shelf: str
    count: int


@pytest.fixture(params=KINDS)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with empty shelves, none of which may become fuller than it can hold."""
    found = address(request.param, request, tmp_path)
    await run(found, "CREATE TABLE sums (shelf text PRIMARY KEY, sold bigint NOT NULL CHECK (sold < 100000))")
    await run(found, "CREATE TABLE seen (shelf text, count bigint)")
    return found


class Shop:
    """An app that keeps the old table of sums up to date."""

    def __init__(self, url: str, *, every_s: float = 0.0, **options: Any) -> None:
        self.app = headrace.App("shop")
        self.sold: headrace.Topic[str, Sold] = self.app.topic(
            "sold", key_type=str, value_type=Sold, partitions=PARTITIONS
        )
        self.applier = bridge.Applier(self.app, bridge.Database(url), group="old", every_s=every_s)
        self.sums = bridge.SqlTable("sums", key="shelf", sums=("sold",))
        self.tries = 0

        @self.applier.agent(self.sold, **options)
        async def keep_sums(events: headrace.Stream[Sold]) -> None:
            async for event in events:
                await self.take(event)

    async def take(self, event: Sold) -> None:
        """What is done for an event."""
        self.tries += 1
        self.sums.add(shelf=event.shelf, sold=event.count)
        self.applier.execute("INSERT INTO seen VALUES (%s, %s)", (event.shelf, event.count))

    async def sell(self, service: Service, *sales: tuple[str, int]) -> None:
        """Sell, and wait until that is in the database."""
        await service.send_all(self.sold, [(shelf, Sold(shelf, count)) for shelf, count in sales])
        await service.until_applied()


async def sums(url: str) -> dict[str, int]:
    return dict(await rows(url, "SELECT shelf, sold FROM sums ORDER BY shelf"))


async def offsets(url: str) -> dict[int, int]:
    return dict(await rows(url, "SELECT partition, offset_next FROM headrace_positions WHERE topic = 'sold'"))


async def letters(service: Service) -> list[bytes | None]:
    found = await service.outputs(service.app.topic("shop.dead-letters", value_type=bytes))
    return [letter.value for letter in found]


async def test_what_events_say_is_in_the_database_with_the_position_behind_them(url: str) -> None:
    shop = Shop(url)
    async with running(shop.app) as service:
        await shop.sell(service, *[(f"shelf {n % 7}", 1) for n in range(700)])
        await shop.sell(service, ("shelf 0", 5))
        assert await sums(url) == {"shelf 0": 105} | {f"shelf {n}": 100 for n in range(1, 7)}
        assert await rows(url, "SELECT count(*), sum(count) FROM seen") == [(701, 705)]
        held = service.position()
        assert await offsets(url) == {place.partition: offset for place, offset in held.items()}


async def test_a_row_that_the_database_refuses_is_found_among_many_and_the_others_are_applied(
    url: str,
) -> None:
    shop = Shop(url)
    async with running(shop.app) as service:
        sales = [(f"shelf {n % 10}", 1) for n in range(400)]
        sales[37] = sales[38] = sales[399] = ("shelf 3", 1_000_000)
        await shop.sell(service, *sales)
        assert sum((await sums(url)).values()) == 397
        assert await rows(url, "SELECT count(*) FROM seen") == [(397,)]
        refused = await letters(service)
        assert len(refused) == 3
        assert all(b"1000000" in (raw or b"") for raw in refused)


async def test_a_refused_event_is_tried_again_as_its_policy_says(url: str) -> None:
    shop = Shop(url, on_error=headrace.Retry(2, backoff_s=0.001))
    async with running(shop.app) as service:
        await shop.sell(service, ("a", 1), ("a", 1_000_000), ("a", 2))
        assert await sums(url) == {"a": 3}
        assert len(await letters(service)) == 1
        assert shop.tries >= 5


async def test_what_raises_leaves_nothing_of_its_event_behind(url: str) -> None:
    class Careless(Shop):
        async def take(self, event: Sold) -> None:
            await super().take(event)
            ((sold,),) = await self.applier.fetch("SELECT sold FROM sums WHERE shelf = %s", (event.shelf,))
            if sold == 5:
                raise ValueError("five is not allowed")

    shop = Careless(url)
    async with running(shop.app) as service:
        await shop.sell(service, ("a", 3), ("a", 2), ("a", 1), ("b", 5), ("b", 6))
        assert await sums(url) == {"a": 4, "b": 6}
        assert await rows(url, "SELECT count(*) FROM seen") == [(3,)]
        assert len(await letters(service)) == 2


async def test_a_query_that_is_refused_is_the_refusal_of_its_event(url: str) -> None:
    class Curious(Shop):
        async def take(self, event: Sold) -> None:
            await super().take(event)
            if event.count == 13:
                await self.applier.fetch("SELECT * FROM no_such_table")

    shop = Curious(url)
    async with running(shop.app) as service:
        await shop.sell(service, ("a", 1), ("a", 13), ("a", 2))
        assert await sums(url) == {"a": 3}
        assert len(await letters(service)) == 1


# --- whoever fails on the way


async def test_a_unit_that_the_database_has_and_the_log_has_not_is_told_to_the_log(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, failures = Shop(url), 3
    commit = Settling._commit

    async def failing(self: Settling, sealed: SealedUnit) -> int:
        nonlocal failures
        if sealed.unit.events and failures:
            failures -= 1
            raise CommitUnknown("nobody answers")
        return await commit(self, sealed)

    monkeypatch.setattr(Settling, "_commit", failing)
    async with running(shop.app, settings=quick(reopen_backoff_s=0.001)) as service:
        for _ in range(5):
            await shop.sell(service, ("a", 1), ("b", 1), ("a", 1_000_000))
        assert failures == 0
        assert await sums(url) == {"a": 5, "b": 5}
        assert len(await letters(service)) == 5


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_commit_whose_answer_is_lost_is_read_from_the_database(
    url: str, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    shop, failures = Shop(url), 3
    probe = await connect(url).connect()
    kind, commit = type(probe), type(probe).commit
    await probe.close()

    async def lost(self: Session) -> None:
        nonlocal failures
        if failures and shop.tries:
            failures -= 1
            if is_committed:
                await commit(self)
            raise CommitInDoubt("the connection was lost in a commit")
        await commit(self)

    monkeypatch.setattr(kind, "commit", lost)
    async with running(shop.app, settings=quick(reopen_backoff_s=0.001)) as service:
        for _ in range(5):
            await shop.sell(service, ("a", 1), ("b", 1))
        assert failures == 0
        assert await sums(url) == {"a": 5, "b": 5}
        assert await rows(url, "SELECT count(*) FROM seen") == [(10,)]


async def test_whoever_was_fenced_commits_nothing_any_more(url: str) -> None:
    sink, settings = SqlSink(bridge.Database(url)), Settings()
    old = await sink.open("shop", "old", 0, settings)
    assert isinstance(old, OpenSqlSink)
    old.is_open = True
    old.write(*_row("a", 1))
    new = await sink.open("shop", "old", 0, settings)
    with pytest.raises(ApplierFenced):
        await old.commit(_record(1), [])
    await old.close()
    assert isinstance(new, OpenSqlSink)
    new.is_open = True
    new.write(*_row("b", 1))
    await new.commit(_record(1), [])
    await new.close()
    assert await sums(url) == {"b": 1}


async def test_a_database_that_was_put_back_in_time_catches_up_from_where_it_is(url: str) -> None:
    shop, log = Shop(url), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await shop.sell(service, ("a", 1), ("b", 1))
        before = await offsets(url)
        await shop.sell(service, ("a", 10), ("b", 10))
    await run(url, "UPDATE sums SET sold = 1", "DELETE FROM seen WHERE count = 10")
    for partition, offset in before.items():
        await run(
            url,
            f"UPDATE headrace_positions SET offset_next = {offset} WHERE topic = 'sold' AND partition = "
            f"{partition}",
        )
    await run(url, "UPDATE headrace_appliers SET unit = 1")
    again = Shop(url)
    async with running(again.app, log=log) as service:
        await service.until_applied()
        assert await sums(url) == {"a": 11, "b": 11}
    await run(url, "DROP TABLE headrace_positions", "DELETE FROM sums", "DROP TABLE headrace_appliers")
    anew = Shop(url)
    async with running(anew.app, log=log) as service:
        await service.until_applied()
        assert await sums(url) == {"a": 11, "b": 11}


async def test_a_server_that_is_killed_takes_nothing_twice_and_loses_nothing(
    own_postgres: PostgresServer,
) -> None:
    url = own_postgres.url
    await run(
        url, "CREATE TABLE sums (shelf text PRIMARY KEY, sold bigint)", "CREATE TABLE seen (s text, c bigint)"
    )
    shop = Shop(url)
    async with running(shop.app, settings=quick(reopen_backoff_s=0.01, reopen_backoff_max_s=0.1)) as service:
        for turn in range(4):
            await service.send_all(shop.sold, [(f"s{n}", Sold(f"s{n}", 1)) for n in range(100)])
            if turn % 2:
                own_postgres.kill()
                own_postgres.start()
        await service.until_applied()
        assert await sums(url) == {f"s{n}": 4 for n in range(100)}
        assert await rows(url, "SELECT count(*) FROM seen") == [(400,)]


# --- what is told before anything runs, and what is refused


async def test_a_group_writes_a_database_or_tables_but_not_both() -> None:
    shop = Shop("sqlite://nowhere.db")
    shop.app.Table("counts", key_type=str, value_type=int, group="old")
    with pytest.raises(DeclarationError, match="counts is in group old, which is that of an applier"):
        async with running(shop.app):
            raise AssertionError("it started")


async def test_an_agent_that_writes_a_database_sends_nothing(url: str) -> None:
    class Sending(Shop):
        async def take(self, event: Sold) -> None:
            await super().take(event)
            if event.count == 2:
                await self.sold.send(key=event.shelf, value=event)

    shop = Sending(url)
    async with running(shop.app) as service:
        await shop.sell(service, ("a", 1), ("a", 2))
        assert await sums(url) == {"a": 1}
        assert len(await letters(service)) == 1


def test_the_database_is_written_by_agents_of_the_applier_only() -> None:
    shop = Shop("sqlite://nowhere.db")
    with pytest.raises(OutsideAgent, match=r"@applier\.agent"):
        shop.sums.put(shelf="a", sold=1)
    with pytest.raises(OutsideAgent, match=r"@applier\.agent"):
        shop.applier.execute("DELETE FROM sums")


async def test_a_database_that_is_not_there_is_waited_for(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    own_postgres.kill()
    with pytest.raises(DatabaseUnavailable):
        await SqlSink(bridge.Database(own_postgres.url)).open("shop", "old", 0, Settings())


# --- those who read the database


async def test_sql_users_wait_for_a_position(postgres_url: str) -> None:
    await run(
        postgres_url,
        "CREATE TABLE sums (shelf text PRIMARY KEY, sold bigint)",
        "CREATE TABLE seen (s text, c bigint)",
    )
    shop = Shop(postgres_url)
    async with running(shop.app) as service:
        await shop.sell(service, ("a", 1))
        ((partition, offset),) = [(p, o) for p, o in (await offsets(postgres_url)).items() if o]
        reached = f"SELECT headrace_wait('shop', 'sold', {partition}, {offset}, 5)"
        assert await rows(postgres_url, reached) == [(True,)]
        beyond = f"SELECT headrace_wait('shop', 'sold', {partition}, {offset + 1}, 0)"
        assert await rows(postgres_url, beyond) == [(False,)]


def _row(shelf: str, count: int) -> Sequence[Any]:
    table = bridge.SqlTable("sums", key="shelf", sums=("sold",))
    return table.shape(Kind.ADD, ("shelf", "sold")), (shelf, count)


def _record(unit: int) -> PositionRecord:
    return PositionRecord(unit, {"sold": InputPosition("id", unit)})


async def test_a_database_that_is_to_rest_is_written_once_in_so_long_with_all_that_came(url: str) -> None:
    every_s = 0.3
    shop = Shop(url, every_s=every_s)
    async with running(shop.app) as service:
        await shop.sell(service, ("tea", 1))
        began_s, before = time.monotonic(), await units(url)
        for _ in range(3):
            await shop.sell(service, ("tea", 1))
        assert time.monotonic() - began_s >= 2 * every_s
        assert await units(url) == before + 3
        began_s, before = time.monotonic(), await units(url)
        for _ in range(20):
            await service.send_all(shop.sold, [("tea", Sold("tea", 1))])
        await service.until_applied()
        assert await sums(url) == {"tea": 24}
        assert await units(url) - before <= 1 + (time.monotonic() - began_s) / every_s


async def units(url: str) -> int:
    """How many units all partitions have been written in."""
    return sum(unit for (unit,) in await rows(url, "SELECT unit FROM headrace_appliers"))


def test_a_rest_is_not_negative() -> None:
    with pytest.raises(DeclarationError, match="below 0"):
        bridge.Applier(headrace.App("shop"), every_s=-1.0)
