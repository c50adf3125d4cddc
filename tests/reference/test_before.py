"""The old system: three services on one database, which do what the new ones do."""

import asyncio
from datetime import date
from pathlib import Path

import pytest

from app.before.loyalty import POSITION
from app.before.stage import Stage, move_to, stage_of
from app.before.standing import partition_of
from headrace.bridge.database import connect
from headrace.bridge.session import Engine
from headrace.events.token import Token
from headrace.settings import Settings
from schemas.promotions import CampaignAnnounced
from tests.reference.old import old_system
from tests.reference.purchases import DAY, basket, coupon, line


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "sqlite":
        return connect(f"sqlite://{tmp_path}/shop.db")
    return connect(request.getfixturevalue("postgres_url"))


async def test_a_basket_earns_points_and_is_kept_as_a_receipt(engine: Engine) -> None:
    async with old_system(engine) as old:
        answer = await old.post("checkout", "/baskets", basket(7, line(250), line(199, coupon_cents=20)))
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
        assert await old.json("loyalty", "/balances/7") == {
            "spend_cents": 449,
            "discount_cents": 20,
            "visits": 1,
            "points": 4,
        }
        assert await old.json("loyalty", "/departments/7") == {"UNKNOWN": 449}
        receipt = await old.json("checkout", "/receipts/7")
        assert receipt == {
            "basket_id": 1,
            "store_id": 1,
            "at": "2017-03-01T17:00:00Z",
            "items": 2,
            "sales_cents": 449,
            "discount_cents": 20,
        }


async def test_points_are_those_of_each_basket_alone(engine: Engine) -> None:
    async with old_system(engine) as old:
        two = [basket(7, line(199), basket_id=1), basket(7, line(199), basket_id=2)]
        await old.post("checkout", "/baskets", *two)
        await old.post("checkout", "/baskets", basket(7, line(199), basket_id=3))
        balance = await old.json("loyalty", "/balances/7")
        assert (balance["visits"], balance["points"]) == (3, 3)


async def test_a_redemption_counts_if_a_basket_of_its_day_has_a_coupon_discount(engine: Engine) -> None:
    async with old_system(engine) as old:
        await old.post("checkout", "/baskets", basket(7, line(300, coupon_cents=50)))
        await old.post("promotions", "/redemptions", coupon(7), coupon(7, day=date(2017, 3, 2)))
        assert (await old.json("loyalty", "/balances/7"))["points"] == 53
        judged = await old.json("loyalty", "/redemptions/7")
        assert {row["day"]: row["is_honoured"] for row in judged} == {"2017-03-01": True, "2017-03-02": False}
        assert await old.json("promotions", "/coupons/7") == {"redeemed": 2, "corrected": 1}


async def test_a_request_that_is_repeated_under_its_key_is_taken_once(engine: Engine) -> None:
    async with old_system(engine) as old:
        for _ in range(2):
            answer = await old.post("checkout", "/baskets", basket(7, line(250)), key="one")
            assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
        assert (await old.json("loyalty", "/balances/7"))["visits"] == 1


async def test_a_basket_that_is_there_is_refused_and_nothing_of_its_request_is_kept(engine: Engine) -> None:
    async with old_system(engine) as old:
        await old.post("checkout", "/baskets", basket(7, line(250)))
        again = [basket(8, line(100), basket_id=2), basket(7, line(250))]
        answer = await old.post("checkout", "/baskets", *again)
        assert (answer.status_code, answer.json()["error"]) == (409, "StatementRefused")
        assert await old.rows("SELECT household_id FROM balances") == [(7,)]
        # The connection that failed is replaced: the service goes on.
        assert (await old.post("checkout", "/baskets", basket(8, line(1), basket_id=2))).status_code == 202


async def test_what_is_no_basket_is_refused(engine: Engine) -> None:
    async with old_system(engine) as old:
        assert (await old.post("checkout", "/baskets", {"basket": "?"})).status_code == 400
        assert (await old.get("loyalty", "/balances/7")).status_code == 404
        assert (await old.get("loyalty", "/departments/7")).status_code == 404


async def test_a_campaign_is_kept(engine: Engine) -> None:
    spring = CampaignAnnounced(campaign_id=3, kind="TypeA", first_day=DAY, last_day=date(2017, 4, 1))
    async with old_system(engine) as old:
        await old.post("promotions", "/campaigns", spring)
        assert await old.json("promotions", "/campaigns/3") == {
            "kind": "TypeA",
            "first_day": "2017-03-01",
            "last_day": "2017-04-01",
        }


async def test_baskets_of_the_same_households_at_once_are_all_counted(engine: Engine) -> None:
    async with old_system(engine) as old:
        batches = [
            [basket(household, line(100), basket_id=10 * at + household) for household in order]
            for at, order in enumerate([range(8), range(7, -1, -1)] * 4, 1)
        ]
        answers = await asyncio.gather(*(old.post("checkout", "/baskets", *batch) for batch in batches))
        assert {answer.status_code for answer in answers} == {202}
        rows = await old.rows("SELECT visits FROM balances")
        assert rows == [(8,)] * 8


async def test_from_the_stage_applied_on_services_leave_loyaltys_tables_alone(engine: Engine) -> None:
    async with old_system(engine) as old:
        await old.post("checkout", "/baskets", basket(7, line(250), basket_id=1))
        await move_to(Stage.APPLIED, engine)
        await old.post("checkout", "/baskets", basket(7, line(250), basket_id=2))
        await old.post("promotions", "/redemptions", coupon(7))
        assert (await old.json("loyalty", "/balances/7"))["visits"] == 1
        assert (await old.json("promotions", "/coupons/7")) == {"redeemed": 1, "corrected": 0}


async def test_a_step_waits_for_the_transactions_of_the_stage_before(engine: Engine) -> None:
    async with old_system(engine):
        writer = await engine.connect()
        assert await stage_of(writer, engine) is Stage.SHARED
        step = asyncio.create_task(move_to(Stage.BASKETS, engine), name="step")
        later = asyncio.create_task(_stage_seen(engine), name="later")
        await writer.execute("INSERT INTO coupon_days VALUES (1, 'while the step waits')")
        await writer.commit()
        await step
        assert await later in (Stage.SHARED, Stage.BASKETS)
        assert await _stage_seen(engine) is Stage.BASKETS
        await writer.close()


async def test_a_row_is_answered_with_the_position_of_the_applier_and_never_with_less_than_is_asked_for(
    engine: Engine, tmp_path: Path
) -> None:
    settings = Settings(log=f"embedded://{tmp_path}/log.db")
    async with old_system(engine, settings) as old:
        await old.post("checkout", "/baskets", basket(7, line(250)))
        await _apply_to(engine, 5)
        assert POSITION not in (await old.get("loyalty", "/balances/7")).headers
        await move_to(Stage.POSITIONED, engine)
        answer = await old.get("loyalty", "/balances/7")
        seen = answer.headers[POSITION]
        assert answer.json()["visits"] == 1
        assert POSITION in (await old.get("loyalty", "/redemptions/7")).headers
        # Another reader was answered from event 8 on: this side has to come as far.
        await _apply_to(engine, 9)
        later = (await old.get("loyalty", "/departments/7")).headers[POSITION]
        assert Token.parse(later).covers(Token.parse(seen))
        await _apply_to(engine, 5)
        refused = await old.get("loyalty", "/balances/7", Headrace_Position=later, Prefer="wait=0")
        assert (refused.status_code, refused.json()["error"]) == (503, "NotReached")
        waiting = asyncio.create_task(
            old.get("loyalty", "/balances/7", Headrace_Position=later, Prefer="wait=30"), name="read"
        )
        await _apply_to(engine, 9)
        assert (await waiting).json() == answer.json()


async def _apply_to(engine: Engine, offset_next: int) -> None:
    """Let the applier have come so far in the partition of household 7."""
    session = await engine.connect()
    place = ("database", "loyalty-tables", "checkout.events", "its id", partition_of(7))
    await session.execute("DELETE FROM headrace_positions")
    await session.execute(
        "INSERT INTO headrace_positions (app, group_name, topic, topic_id, partition, offset_next) "
        "VALUES (%s, %s, %s, %s, %s, %s)",
        (*place, offset_next),
    )
    await session.commit()
    await session.close()


async def _stage_seen(engine: Engine) -> Stage:
    session = await engine.connect()
    try:
        return await stage_of(session, engine)
    finally:
        await session.close()


async def test_each_service_tells_how_many_statements_it_has_sent(engine: Engine) -> None:
    async with old_system(engine) as old:
        assert await old.json("loyalty", "/statements") == {"statements": 0}
        await old.post("checkout", "/baskets", basket(7, line(250)))
        await old.get("loyalty", "/balances/7")
        assert await old.json("loyalty", "/statements") == {"statements": 1}
        counted = (await old.json("checkout", "/statements"))["statements"]
        # Stage, baskets, lines; and two of loyalty's tables.
        assert counted == 5
