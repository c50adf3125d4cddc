"""The three services of the reference system on one log: what each makes of the others' facts."""

from datetime import date
from typing import Any

import msgspec
import pytest

import headrace
from agents import checkout as checkout_agents
from agents import loyalty as loyalty_agents
from agents import promotions as promotions_agents
from app.checkout import app as checkout
from app.checkout import baskets
from app.loyalty import app as loyalty
from app.loyalty import corrections
from app.promotions import app as promotions
from app.promotions import promotions as promotions_events
from headrace.testing import Crash, Rebalance, assert_fold, harness
from schemas.checkout import BasketCorrected
from schemas.loyalty import RedemptionCorrected
from schemas.promotions import CampaignAnnounced
from tables.checkout import Receipt, receipts
from tables.loyalty import Balance, Redemption, balances, department_spend, redemptions
from tables.promotions import Campaign, CouponBook, campaigns, coupon_books
from tests.reference.purchases import DAY, UNKNOWN_PRODUCT, basket, coupon, line

SERVICES = (checkout, promotions, loyalty)
AGENTS = (checkout_agents, loyalty_agents, promotions_agents)
"""Imported, and so declared, before any test."""


def key(event: Any) -> int:
    """The key of each event of the chain."""
    return event.campaign_id if isinstance(event, CampaignAnnounced) else event.household_id


async def test_a_basket_earns_points_and_is_kept_as_a_receipt() -> None:
    async with harness(*SERVICES, key=key) as h:
        await h.send(baskets, basket(7, line(250), line(199, coupon_cents=20)))
        assert h[loyalty].table(balances)[7] == Balance(
            spend_cents=449, discount_cents=20, visits=1, points=4
        )
        assert h[loyalty].table(department_spend)[7] == {"UNKNOWN": 449}
        receipt: Receipt = h[checkout].table(receipts)[7]
        assert (receipt.items, receipt.sales_cents, receipt.discount_cents) == (2, 449, 20)


async def test_the_last_receipt_is_kept_in_whatever_order_baskets_come() -> None:
    early, late = (basket(7, line(cents), basket_id=cents) for cents in (100, 200))
    for sent in ((early, late), (late, early)):
        async with harness(*SERVICES, key=key) as h:
            await h.run(sent)
            assert h[checkout].table(receipts)[7].sales_cents == 200


async def test_a_redemption_on_the_day_of_a_coupon_basket_counts_fifty_points() -> None:
    async with harness(*SERVICES, key=key) as h:
        await h.send(baskets, basket(7, line(300, coupon_cents=50)))
        await h.send(promotions_events, coupon(7))
        assert h[loyalty].table(balances)[7].points == 53
        assert h[loyalty].table(redemptions)[7] == (Redemption(5, 3, DAY, True),)
        assert h[promotions].table(coupon_books)[7] == CouponBook(redeemed=1, corrected=0)
        assert h[promotions].dead_letters() == []


@pytest.mark.parametrize(
    "bought",
    [
        (),
        (basket(7, line(300)),),
        (basket(7, line(300, coupon_cents=50), day=date(2017, 2, 28)),),
        (basket(8, line(300, coupon_cents=50)),),
    ],
    ids=["no basket", "no coupon in it", "another day", "another household"],
)
async def test_a_redemption_that_no_basket_bears_out_is_corrected_and_promotions_hears_of_it(
    bought: tuple[headrace.Event, ...],
) -> None:
    async with harness(*SERVICES, key=key) as h:
        await h.run(bought)
        sent = await h.send(promotions_events, coupon(7))
        (correction,) = h.sent(corrections)
        assert isinstance(correction, RedemptionCorrected)
        assert (correction.corrects, correction.household_id) == (sent.event_id, 7)
        assert h[loyalty].table(balances).get(7, Balance()).points in (0, 3)
        assert not h[loyalty].table(redemptions)[7][0].is_honoured
        assert h[promotions].table(coupon_books)[7] == CouponBook(redeemed=1, corrected=1)


async def test_campaigns_are_promotions_own_business() -> None:
    announced = CampaignAnnounced(3, "TypeA", date(2017, 1, 1), date(2017, 2, 1))
    async with harness(*SERVICES, key=key) as h:
        await h.send(promotions_events, announced)
        assert h[promotions].table(campaigns)[3] == Campaign("TypeA", date(2017, 1, 1), date(2017, 2, 1))
        assert h[loyalty].table(balances) == {}


async def test_facts_come_in_over_http_and_are_read_from_every_service() -> None:
    async with harness(*SERVICES, key=key) as h:
        facts = [basket(7, line(300, coupon_cents=50)), basket(8, line(999))]
        answer = await h[checkout].http.post("/baskets", content=msgspec.json.encode(facts))
        assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
        answer = await h[promotions].http.post("/redemptions", content=msgspec.json.encode([coupon(8)]))
        assert answer.status_code == 202
        assert (await h[loyalty].http.get("/balances/7")).json()["points"] == 3
        assert (await h[loyalty].http.get("/redemptions/8")).json()[0]["is_honoured"] is False
        assert (await h[promotions].http.get("/coupons/8")).json() == {"redeemed": 1, "corrected": 1}
        assert (await h[checkout].http.get("/receipts/8")).json()["sales_cents"] == 999
        assert (await h[checkout].http.post("/baskets", content=b'[{"no": "basket"}]')).status_code == 400
        assert len(h.sent(baskets)) == 2


async def test_a_correction_is_sent_once_wherever_loyalty_dies() -> None:
    async with harness(*SERVICES, key=key) as h:
        crashes = [Crash(at, app=loyalty) for at in ("read", "commit", "committed", "publish", "apply")]
        for number, crash in enumerate(crashes, 1):
            await h.run([coupon(7, coupon_upc=number), crash, Rebalance(app=promotions)])
            assert len(h.sent(corrections)) == number
            assert h[promotions].table(coupon_books)[7] == CouponBook(number, number)
        await h.check()


async def test_whatever_crashes_every_table_of_the_three_is_the_fold_of_its_events() -> None:
    days = [date(2017, 3, day) for day in (1, 2, 3)]
    events = [
        event
        for number in range(12)
        for event in (
            basket(number % 5, line(100 * number, coupon_cents=number % 2), day=days[number % 3]),
            coupon((number + 2) % 5, day=days[number % 3]),
        )
    ]
    await assert_fold(*SERVICES, events=events, key=key, crashes=30, seed=3)


async def test_a_correction_counts_once_however_often_it_comes_and_only_for_a_redemption_that_is_known() -> (
    None
):
    async with harness(*SERVICES, key=key) as h:
        for _ in range(2):
            await h.send(promotions_events, coupon(7))
        first, second = h.sent(corrections)
        assert first.corrects != second.corrects
        assert h[promotions].table(coupon_books)[7] == CouponBook(redeemed=2, corrected=2)
        await h.send(corrections, first, key=7)
        assert h[promotions].table(coupon_books)[7] == CouponBook(redeemed=2, corrected=2)
        await h.send(corrections, msgspec.structs.replace(first, household_id=8), key=8)
        (letter,) = h[promotions].dead_letters()
        assert (letter.error, letter.topic) == ("UnknownRedemption", "loyalty.events")
        assert 8 not in h[promotions].table(coupon_books)


async def test_a_corrected_basket_is_right_wherever_it_was_believed_before() -> None:
    async with harness(*SERVICES, key=key) as h:
        wrong = await h.send(baskets, basket(7, line(250), line(199, coupon_cents=20)))
        await h.send(promotions_events, coupon(7))
        correction = BasketCorrected(
            corrects=wrong.event_id,
            reason="the shelf said 1.49",
            household_id=7,
            basket_id=1,
            product_id=UNKNOWN_PRODUCT,
            price_cents_before=199,
            price_cents=149,
            basket_cents_before=449,
        )
        await h.send(baskets, correction)
        assert h[loyalty].table(balances)[7] == Balance(
            spend_cents=399, discount_cents=20, visits=1, points=53
        )
        assert h[loyalty].table(department_spend)[7] == {"UNKNOWN": 399}
        assert h[loyalty].table(redemptions)[7][0].is_honoured
        assert h[checkout].table(receipts)[7].sales_cents == 399
        assert h.sent(corrections) == []
        await h.send(baskets, basket(7, line(10), basket_id=2, day=date(2017, 3, 2)))
        again = {"price_cents_before": 149, "price_cents": 29, "basket_cents_before": 399}
        await h.send(baskets, msgspec.structs.replace(correction, **again))
        assert h[loyalty].table(balances)[7] == Balance(
            spend_cents=289, discount_cents=20, visits=2, points=52
        )
        assert h[checkout].table(receipts)[7].sales_cents == 10
        await h.check()
