"""The contract of the service `loyalty`: what it found wrong in other services' facts."""

from datetime import date

import headrace
from schemas.promotions import CouponRedeemed


class RedemptionCorrected(headrace.Correction[CouponRedeemed], frozen=True, kw_only=True):
    """A redemption does not count: no basket of that day has a coupon discount.

    Sent to `loyalty.events`, keyed by household.
    """

    household_id: int
    coupon_upc: int
    campaign_id: int
    day: date


LoyaltyEvent = RedemptionCorrected
"""Everything on `loyalty.events`; a union as soon as there is a second kind of fact."""
