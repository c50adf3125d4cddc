"""Loyalty's tables in the shared database, kept up to date from the same events as loyalty's own."""

from collections import defaultdict

import headrace
from app.catalogue import UNKNOWN, departments
from app.database import ALREADY, applier, baskets, promotions
from schemas.checkout import BasketCorrected, BasketPurchased, CheckoutEvent
from schemas.promotions import CouponRedeemed, PromotionsEvent
from tables.database import balances, coupon_days, department_spend, judgements
from tables.loyalty import CENTS_PER_POINT, POINTS_PER_REDEMPTION

_department_of = departments()


@applier.agent(baskets)
async def keep_sums(events: headrace.Stream[CheckoutEvent]) -> None:
    """Add each basket to the sums of its household, unless checkout has done that itself."""
    async for delivery in events.events():
        if ALREADY in delivery.headers:
            continue
        match delivery.value:
            case BasketPurchased() as basket:
                _add(basket)
            case BasketCorrected() as correction:
                _correct(correction)


def _add(basket: BasketPurchased) -> None:
    household, cents = basket.household_id, basket.sales_cents
    balances.add(
        household_id=household,
        spend_cents=cents,
        discount_cents=basket.discount_cents,
        visits=1,
        points=cents // CENTS_PER_POINT,
    )
    spend: dict[str, int] = defaultdict(int)
    for line in basket.lines:
        spend[_department_of.get(line.product_id, UNKNOWN)] += line.sales_cents
    for department, spent in spend.items():
        department_spend.add(household_id=household, department=department, cents=spent)
    if basket.has_coupon_discount:
        coupon_days.put(household_id=household, day=basket.day.isoformat())


def _correct(correction: BasketCorrected) -> None:
    after, before = correction.basket_cents, correction.basket_cents_before
    balances.add(
        household_id=correction.household_id,
        spend_cents=correction.cents_by,
        discount_cents=0,
        visits=0,
        points=after // CENTS_PER_POINT - before // CENTS_PER_POINT,
    )
    department_spend.add(
        household_id=correction.household_id,
        department=_department_of.get(correction.product_id, UNKNOWN),
        cents=correction.cents_by,
    )


@applier.agent(promotions)
async def judge_redemptions(events: headrace.Stream[PromotionsEvent]) -> None:
    """Reward a redemption that a basket of its day bears out, unless promotions has done that itself."""
    async for delivery in events.events():
        redeemed = delivery.value
        if not isinstance(redeemed, CouponRedeemed) or ALREADY in delivery.headers:
            continue
        household, day = redeemed.household_id, redeemed.day.isoformat()
        found = await applier.fetch(
            "SELECT 1 FROM coupon_days WHERE household_id = %s AND day = %s", (household, day)
        )
        judgements.put(
            household_id=household,
            coupon_upc=redeemed.coupon_upc,
            campaign_id=redeemed.campaign_id,
            day=day,
            is_honoured=bool(found),
        )
        if found:
            balances.add(
                household_id=household,
                spend_cents=0,
                discount_cents=0,
                visits=0,
                points=POINTS_PER_REDEMPTION,
            )
