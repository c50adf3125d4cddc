"""The service `promotions`: campaigns and redeemed coupons, and what loyalty said about the latter."""

from starlette.requests import Request
from starlette.responses import Response

import headrace
from app.intake import Intake
from schemas.loyalty import LoyaltyEvent
from schemas.promotions import CampaignAnnounced, CouponRedeemed, PromotionsEvent

app = headrace.App("promotions", autodiscover=["agents.promotions"])

promotions: headrace.Topic[int, PromotionsEvent] = app.topic(
    "promotions.events", key_type=int, value_type=PromotionsEvent, partitions=8
)
corrections: headrace.Topic[int, LoyaltyEvent] = app.topic(
    "loyalty.events", key_type=int, value_type=LoyaltyEvent, partitions=8
)

_campaigns = Intake(
    CampaignAnnounced, lambda announced: promotions.send(key=announced.campaign_id, value=announced)
)
_redemptions = Intake(
    CouponRedeemed, lambda redeemed: promotions.send(key=redeemed.household_id, value=redeemed)
)


@app.route("/campaigns", methods=["POST"])
async def announce(request: Request) -> Response:
    """Take campaigns that were planned."""
    return await _campaigns.accept(request)


@app.route("/redemptions", methods=["POST"])
async def redeem(request: Request) -> Response:
    """Take coupons that households handed in."""
    return await _redemptions.accept(request)
