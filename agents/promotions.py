"""What promotions does with its own facts, and with what loyalty found wrong in them."""

import headrace
from app.promotions import app, corrections, promotions
from schemas.loyalty import LoyaltyEvent
from schemas.promotions import CampaignAnnounced, CouponRedeemed, PromotionsEvent
from tables.promotions import Campaign, campaigns, coupon_books, redemptions_counting


@app.agent(promotions)
async def keep_books(events: headrace.Stream[PromotionsEvent]) -> None:
    """Remember campaigns, and count the coupons of each household."""
    async for delivery in events.events():
        match delivery.value:
            case CampaignAnnounced(campaign_id, kind, first_day, last_day):
                campaigns[campaign_id] = Campaign(kind, first_day, last_day)
            case CouponRedeemed(household_id):
                counting = redemptions_counting[household_id]
                redemptions_counting[household_id] = {delivery.event_id: True, **counting}
                coupon_books[household_id] = coupon_books[household_id].redeem()


@app.agent(corrections)
async def take_corrections(events: headrace.Stream[LoyaltyEvent]) -> None:
    """Count the redemptions that turned out not to count: they were applied, and are now corrected.

    Each counts once, however often it is corrected. What a correction corrects has been seen here: its
    stamp names it.
    """
    async for correction in events:
        household, corrected = correction.household_id, correction.corrects
        counting = redemptions_counting[household]
        if corrected not in counting:
            raise UnknownRedemption(f"no redemption of household {household} has the id {corrected}")
        if counting[corrected]:
            redemptions_counting[household] = {**counting, corrected: False}
            coupon_books[household] = coupon_books[household].correct()


class UnknownRedemption(ValueError):
    """A correction names an event that is no redemption of its household."""
