"""The contract of the service `promotions`: campaigns, and the coupons that households redeem."""

from datetime import date

import headrace


class CampaignAnnounced(headrace.Event, frozen=True):
    """A campaign was planned. Sent to `promotions.events`, keyed by campaign."""

    campaign_id: int
    kind: str
    first_day: date
    last_day: date


class CouponRedeemed(headrace.Event, frozen=True):
    """A household handed in a coupon at a till. Sent to `promotions.events`, keyed by household."""

    household_id: int
    coupon_upc: int
    campaign_id: int
    day: date
    """The day on the till's calendar."""


PromotionsEvent = CampaignAnnounced | CouponRedeemed
"""Everything on `promotions.events`."""
