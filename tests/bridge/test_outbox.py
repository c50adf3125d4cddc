"""Events that services leave in their own transactions: published once, in order of commit, never skipped."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session as OrmSession

import headrace
from headrace import bridge
from headrace.bridge import courier
from headrace.bridge.database import connect
from headrace.bridge.outboxtable import Ranges, delete, ensure_outbox
from headrace.bridge.session import Engine, Session
from headrace.errors import (
    CommitUnknown,
    DatabaseUnavailable,
    DeclarationError,
    OutsideTransaction,
    UnencodableValue,
)
from headrace.events.seen import Seen
from headrace.log.port import Append, Closing
from headrace.log.simulated.log import SimulatedLog
from headrace.log.simulated.writer import SimulatedWriter
from headrace.testing.postgres_server import PostgresServer
from tests.bridge.databases import KINDS, address, rows
from tests.service import Service, quick, running


class Paid(headrace.Event, frozen=True):
    """A household paid."""

    household: int
    number: int


class Till:
    """A service that writes a database, and the app that publishes its events."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = headrace.App("till")
        self.paid: headrace.Topic[int, Paid] = self.app.topic(
            "paid", key_type=int, value_type=Paid, partitions=2
        )
        self.outbox = bridge.Outbox(self.paid)
        self.relay = bridge.Relay(self.app, [self.outbox], bridge.Database(url))
        self.letters = self.app.topic("till.dead-letters", value_type=bytes)

    async def pay(self, *payments: tuple[int, int]) -> None:
        """Leave these events, in one transaction."""
        engine = connect(self.url)
        session = await engine.connect()
        await ensure_outbox(engine, session)
        for household, number in payments:
            await self.outbox.asend(session, key=household, value=Paid(household, number))
        await session.commit()
        await session.close()

    async def published(self, service: Service, count: int) -> list[Paid]:
        """Every event of the topic, once there are so many; none may come after them."""
        place = [headrace.TopicPartition("paid", p) for p in range(2)]
        while sum(held.end for held in (await service.log.offsets(place)).values()) < count:
            await service.until_ready()
        while await rows(self.url, "SELECT id FROM headrace_outbox"):
            await service.until_ready()
        return [delivery.value for delivery in await service.outputs(self.paid)]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return address(request.param, request, tmp_path)


def numbers(events: Sequence[Paid], household: int) -> list[int]:
    return [event.number for event in events if event.household == household]


async def test_what_is_committed_is_published_once_and_then_gone(url: str) -> None:
    till = Till(url)
    async with running(till.app) as service:
        for turn in range(10):
            await till.pay(*[(household, turn) for household in range(50)])
        events = await till.published(service, 500)
        assert len(events) == 500
        assert all(numbers(events, household) == list(range(10)) for household in range(50))
        assert await rows(url, "SELECT * FROM headrace_outbox") == []


async def test_an_event_keeps_its_id_its_time_its_headers_and_what_it_follows(url: str) -> None:
    till = Till(url)
    engine = connect(url)
    session = await engine.connect()
    await ensure_outbox(engine, session)
    left = await till.outbox.asend(session, key=7, value=Paid(7, 1), headers={"shared-tables": b"updated"})
    await session.commit()
    await session.close()
    async with running(till.app) as service:
        await till.published(service, 1)
        (delivery,) = await service.outputs(till.paid)
        assert (delivery.key, delivery.value) == (7, Paid(7, 1))
        assert delivery.event_id == left.event_id
        assert delivery.headers["shared-tables"] == b"updated"


async def test_what_is_rolled_back_is_never_published(url: str) -> None:
    till = Till(url)
    engine = connect(url)
    session = await engine.connect()
    await ensure_outbox(engine, session)
    await till.outbox.asend(session, key=1, value=Paid(1, 1))
    await session.rollback()
    await session.close()
    async with running(till.app) as service:
        await till.pay((1, 2))
        assert numbers(await till.published(service, 1), 1) == [2]


# --- order of commits


async def test_a_transaction_that_commits_late_is_not_skipped(postgres_url: str) -> None:
    till = Till(postgres_url)
    await till.pay()
    async with running(till.app) as service:
        async with await psycopg.AsyncConnection.connect(postgres_url) as early:
            await till.outbox.asend(early, key=1, value=Paid(1, 1))
            async with await psycopg.AsyncConnection.connect(postgres_url) as late:
                await till.outbox.asend(late, key=2, value=Paid(2, 1))
            # The later row is published while the earlier one is not even visible.
            assert numbers(await till.published(service, 1), 2) == [1]
        events = await till.published(service, 2)
        assert sorted((event.household, event.number) for event in events) == [(1, 1), (2, 1)]


async def test_a_younger_transaction_that_took_the_older_place_is_not_skipped(postgres_url: str) -> None:
    till = Till(postgres_url)
    await till.pay()
    async with running(till.app) as service:
        async with await psycopg.AsyncConnection.connect(postgres_url) as younger:
            async with await psycopg.AsyncConnection.connect(postgres_url) as older:
                await older.execute("SELECT pg_current_xact_id()")
                await till.outbox.asend(younger, key=1, value=Paid(1, 1))
                await till.outbox.asend(older, key=2, value=Paid(2, 1))
            # In no snapshot the younger one is named: the last that has ended is older than it.
            assert numbers(await till.published(service, 1), 2) == [1]
            for number in range(3):
                await looked_again(till, service, number)
        await till.published(service, 5)


async def looked_again(till: Till, service: Service, number: int) -> None:
    """Return once the relay has looked at the outbox without finding anything."""
    cursor = headrace.TopicPartition("till.outbox", 0)
    before = (await service.log.offsets([cursor]))[cursor].end
    async with await psycopg.AsyncConnection.connect(till.url) as other:
        await till.outbox.asend(other, key=3, value=Paid(3, number))
    # One record for the batch, and one that nothing of it is left.
    while (await service.log.offsets([cursor]))[cursor].end < before + 2:
        await service.until_ready()


async def test_for_one_key_the_order_is_that_of_the_commits_not_of_who_began_first(postgres_url: str) -> None:
    till = Till(postgres_url)
    await till.pay()
    async with running(till.app) as service:
        async with await psycopg.AsyncConnection.connect(postgres_url) as began_first:
            await began_first.execute("SELECT pg_current_xact_id()")
            async with await psycopg.AsyncConnection.connect(postgres_url) as began_second:
                await till.outbox.asend(began_second, key=1, value=Paid(1, 1))
            await till.outbox.asend(began_first, key=1, value=Paid(1, 2))
        assert numbers(await till.published(service, 2), 1) == [1, 2]


async def test_two_transactions_with_one_key_are_one_after_the_other(postgres_url: str) -> None:
    till = Till(postgres_url)
    await till.pay()
    with psycopg.connect(postgres_url) as first, psycopg.connect(postgres_url) as second:
        till.outbox.send(first, key=1, value=Paid(1, 1))
        second.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            till.outbox.send(second, key=1, value=Paid(1, 2))


async def test_very_many_events_of_one_transaction_do_not_use_up_the_servers_locks(postgres_url: str) -> None:
    till = Till(postgres_url)
    await till.pay()
    with psycopg.connect(postgres_url) as connection:
        till.outbox.send_many(connection, [(n, Paid(n, 0)) for n in range(20_000)])
        ((locks,),) = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        ).fetchall()
        assert locks < 10
    async with running(till.app) as service:
        assert len(await till.published(service, 20_000)) == 20_000


# --- whoever fails on the way


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_commit_whose_answer_is_lost_publishes_nothing_twice(
    url: str, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    till, failures = Till(url), 4
    commit = SimulatedWriter.commit

    async def lost(self: Any, appends: Sequence[Append], closing: Closing | None = None) -> Any:
        nonlocal failures
        is_batch = any(append.topic == "paid" for append in appends)
        if is_batch and failures:
            failures -= 1
            if is_committed:
                await commit(self, appends, closing)
            raise CommitUnknown("nobody answers")
        return await commit(self, appends, closing)

    monkeypatch.setattr(SimulatedWriter, "commit", lost)
    async with running(till.app) as service:
        for turn in range(8):
            await till.pay(*[(household, turn) for household in range(20)])
            events = await till.published(service, 20 * (turn + 1))
        assert failures == 0
        assert all(numbers(events, household) == list(range(8)) for household in range(20))


async def test_a_server_that_is_killed_takes_nothing_with_it_that_was_committed(
    own_postgres: PostgresServer,
) -> None:
    till = Till(own_postgres.url)
    async with running(till.app, settings=quick(reopen_backoff_max_s=0.1)) as service:
        for turn in range(4):
            await till.pay(*[(household, turn) for household in range(20)])
            own_postgres.kill()
            own_postgres.start()
        events = await till.published(service, 80)
        assert all(numbers(events, household) == list(range(4)) for household in range(20))


async def test_a_worker_that_takes_over_goes_on_where_the_one_before_was(url: str) -> None:
    log = SimulatedLog()
    for turn in range(3):
        till = Till(url)
        await till.pay(*[(household, turn) for household in range(20)])
        async with running(till.app, log=log) as service:
            events = await till.published(service, 20 * (turn + 1))
    assert all(numbers(events, household) == [0, 1, 2] for household in range(20))


async def test_a_batch_whose_deletion_fails_while_the_next_is_published_is_published_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor names both: the rows of the first are still there when the next relay takes over."""
    deletions = 0

    async def failing_once(engine: Engine, session: Session, ranges: Ranges) -> None:
        nonlocal deletions
        deletions += 1
        if deletions == 1:
            raise DatabaseUnavailable("the connection is lost")
        await delete(engine, session, ranges)

    monkeypatch.setattr(courier, "ROWS_MAX", 3)
    monkeypatch.setattr(courier, "delete", failing_once)
    till = Till(url)
    await till.pay(*[(household, 0) for household in range(9)])
    async with running(till.app, settings=quick(reopen_backoff_s=0.01, reopen_backoff_max_s=0.02)) as service:
        events = await till.published(service, 9)
    assert sorted(event.household for event in events) == list(range(9))
    assert deletions > 1


# --- what is not as it should be


async def test_rows_that_cannot_be_published_become_dead_letters_and_hold_nobody_up(url: str) -> None:
    till = Till(url)
    engine = connect(url)
    session = await engine.connect()
    await ensure_outbox(engine, session)
    insert = "INSERT INTO headrace_outbox (topic, key, value, headers) VALUES (%s, %s, %s, %s)"
    await session.execute(insert, ("no.such.topic", b"1", b"{}", None))
    await session.execute(insert, ("paid", b"1", b"{}", b"not headers"))
    await session.execute(insert, ("paid", b"1", b"x" * 1_000_001, None))
    await till.outbox.asend(session, key=1, value=Paid(1, 1))
    await session.commit()
    await session.close()
    async with running(till.app) as service:
        assert numbers(await till.published(service, 1), 1) == [1]
        assert len(await service.outputs(till.letters)) == 3


async def test_events_are_left_inside_of_transactions_only(postgres_url: str, tmp_path: Path) -> None:
    till = Till(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        with pytest.raises(OutsideTransaction):
            till.outbox.send(connection, key=1, value=Paid(1, 1))
    lite = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    with pytest.raises(OutsideTransaction):
        till.outbox.send(lite, key=1, value=Paid(1, 1))
    lite.close()


def test_what_the_topic_would_not_take_is_refused_at_once(tmp_path: Path) -> None:
    till = Till(f"sqlite://{tmp_path}/x.db")
    with pytest.raises(DeclarationError, match="needs a key"):
        till.outbox.send(None, value=Paid(1, 1))
    with pytest.raises(UnencodableValue):
        till.outbox.send(None, key=1, value="paid")  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="does not know connections"):
        till.outbox.send(object(), key=1, value=Paid(1, 1))


# --- the connections that services have


async def test_every_driver_leaves_the_same_rows(url: str, tmp_path: Path) -> None:
    till = Till(url)
    await till.pay()
    if url.startswith("sqlite"):
        lite = sqlite3.connect(url.removeprefix("sqlite://"))
        till.outbox.send(lite, key=1, value=Paid(1, 1))
        till.outbox.send_many(lite, [(1, Paid(1, 2))])
        lite.commit()
        lite.close()
        alchemy = "sqlite:///" + url.removeprefix("sqlite://")
    else:
        with psycopg.connect(url) as connection:
            till.outbox.send(connection, key=1, value=Paid(1, 1))
            till.outbox.send_many(connection, [(1, Paid(1, 2))])
        alchemy = url.replace("postgresql://", "postgresql+psycopg://")
    engine = sqlalchemy.create_engine(alchemy)
    with OrmSession(engine) as session, session.begin():
        till.outbox.send(session, key=1, value=Paid(1, 3))
    with engine.begin() as other:
        till.outbox.send(other, key=1, value=Paid(1, 4))
        till.outbox.send_many(other, [(2, Paid(2, n)) for n in range(600)])
    engine.dispose()
    if not url.startswith("sqlite"):
        in_async = create_async_engine(alchemy)
        async with in_async.begin() as third:
            await till.outbox.asend(third, key=1, value=Paid(1, 5))
        await in_async.dispose()
    async with running(till.app) as service:
        last = 4 if url.startswith("sqlite") else 5
        events = await till.published(service, 600 + last)
        assert numbers(events, 1) == list(range(1, last + 1))
        assert numbers(events, 2) == list(range(600))


async def test_an_event_follows_the_earlier_ones_of_its_key_in_other_topics(url: str) -> None:
    app = headrace.App("two")
    baskets: headrace.Topic[int, Paid] = app.topic("baskets", key_type=int, value_type=Paid, partitions=4)
    coupons: headrace.Topic[int, Paid] = app.topic("coupons", key_type=int, value_type=Paid, partitions=4)
    outboxes = [bridge.Outbox(baskets), bridge.Outbox(coupons)]
    bridge.Relay(app, outboxes, bridge.Database(url))
    seen: headrace.Table[int, int] = app.Table("seen", key_type=int, value_type=int, default=int)
    redeemed: headrace.Table[int, int] = app.Table("redeemed", key_type=int, value_type=int, default=int)
    early: list[int] = []

    @app.agent(coupons)
    async def redeem(events: headrace.Stream[Paid]) -> None:
        async for event in events:
            redeemed[event.household] += 1
            if seen[event.household] <= event.number:
                early.append(event.household)

    @app.agent(baskets)
    async def buy(events: headrace.Stream[Paid]) -> None:
        async for event in events:
            seen[event.household] += 1

    engine = connect(url)
    session = await engine.connect()
    await ensure_outbox(engine, session)
    for number in range(5):
        for outbox in outboxes:
            for household in range(40):
                await outbox.asend(session, key=household, value=Paid(household, number))
            await session.commit()
    await session.close()
    async with running(app) as service:
        tables = [service.table("seen"), service.table("redeemed")]
        await service.until(lambda: [sum(table.rows().values()) for table in tables] == [200, 200])
        assert early == []
        lies = {each.value: (each.partition, each.offset) for each in await service.outputs(baskets)}
        for coupon in await service.outputs(coupons):
            partition, offset = lies[coupon.value]
            named = service.runtime.catalog.print_of(headrace.TopicPartition("baskets", partition))
            assert coupon.envelope is not None
            assert Seen.decode(coupon.envelope.stamp)[named] > offset
