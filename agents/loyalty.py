"""What loyalty does with the facts of checkout and promotions."""

import headrace
from app.catalogue import departments
from app.loyalty import app, baskets, corrections, promotions
from schemas.checkout import BasketCorrected, BasketPurchased, CheckoutEvent
from schemas.loyalty import RedemptionCorrected
from schemas.promotions import CouponRedeemed, PromotionsEvent
from tables.loyalty import (
    Redemption,
    balances,
    corrected_spend,
    coupon_days,
    department_spend,
    redemptions,
    spend_by_department,
)

# Read when the service is imported: no event, and no request, has to wait for it.
_department_of = departments()


@app.agent(baskets)
async def earn_points(events: headrace.Stream[CheckoutEvent]) -> None:
    """Add each basket to its household's sums, and note the days on which coupons were used."""
    async for event in events:
        household = event.household_id
        spend = department_spend[household]
        match event:
            case BasketPurchased():
                balances[household] = balances[household].earn(event)
                department_spend[household] = spend_by_department(spend, event, _department_of)
                if event.has_coupon_discount and event.day not in coupon_days[household]:
                    coupon_days[household] = (*coupon_days[household], event.day)
            case BasketCorrected():
                balances[household] = balances[household].correct(event)
                department_spend[household] = corrected_spend(spend, event, _department_of)


@app.agent(promotions)
async def judge_redemptions(events: headrace.Stream[PromotionsEvent]) -> None:
    """Reward a redemption that a basket of its day bears out, and correct one that none does."""
    async for delivery in events.events():
        redeemed = delivery.value
        if not isinstance(redeemed, CouponRedeemed):
            continue  # campaigns are promotions' own business
        household = redeemed.household_id
        is_honoured = redeemed.day in coupon_days[household]
        redemptions[household] = (
            *redemptions[household],
            Redemption(redeemed.coupon_upc, redeemed.campaign_id, redeemed.day, is_honoured),
        )
        if is_honoured:
            balances[household] = balances[household].reward()
        else:
            await corrections.send(value=_correction(redeemed, delivery.event_id))


def _correction(redeemed: CouponRedeemed, event_id: str) -> RedemptionCorrected:
    return RedemptionCorrected(
        corrects=event_id,
        reason=f"no basket of {redeemed.day} has a coupon discount",
        household_id=redeemed.household_id,
        coupon_upc=redeemed.coupon_upc,
        campaign_id=redeemed.campaign_id,
        day=redeemed.day,
    )
