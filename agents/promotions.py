"""What promotions does with its own facts, and with what loyalty found wrong in them."""

import headrace
from app.promotions import app, corrections, promotions
from schemas.loyalty import LoyaltyEvent
from schemas.promotions import CampaignAnnounced, CouponRedeemed, PromotionsEvent
from tables.promotions import Campaign, campaigns, coupon_books


@app.agent(promotions)
async def keep_books(events: headrace.Stream[PromotionsEvent]) -> None:
    """Remember campaigns, and count the coupons of each household."""
    async for event in events:
        match event:
            case CampaignAnnounced(campaign_id, kind, first_day, last_day):
                campaigns[campaign_id] = Campaign(kind, first_day, last_day)
            case CouponRedeemed(household_id):
                coupon_books[household_id] = coupon_books[household_id].redeem()


@app.agent(corrections)
async def take_corrections(events: headrace.Stream[LoyaltyEvent]) -> None:
    """Count the redemptions that turned out not to count: they were applied, and are now corrected."""
    async for correction in events:
        household = correction.household_id
        coupon_books[household] = coupon_books[household].correct()
