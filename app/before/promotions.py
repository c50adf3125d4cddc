"""The old service promotions: campaigns and redeemed coupons, and loyalty's judgement of the latter."""

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.before.connections import Connections
from app.before.loyalty_tables import judge
from app.before.service import accept, application
from app.before.stage import stage_of
from app.database import UPDATED, promotions_outbox
from app.intake import events_in
from headrace.bridge.session import Session
from schemas.promotions import CampaignAnnounced, CouponRedeemed

_ANNOUNCE = "INSERT INTO campaigns VALUES (%s, %s, %s, %s, %s)"
_REDEEM = "INSERT INTO redemptions VALUES (%s, %s, %s, %s, %s)"
_CAMPAIGN = "SELECT kind, first_day, last_day FROM campaigns WHERE campaign_id = %s"
_COUPONS = """SELECT (SELECT count(*) FROM redemptions WHERE household_id = %s),
    (SELECT count(*) FROM judgements WHERE household_id = %s AND NOT is_honoured)"""


def build(connections: Connections) -> Starlette:
    """The service on these connections."""
    decode_campaign = msgspec.json.Decoder(CampaignAnnounced).decode
    decode_redemption = msgspec.json.Decoder(CouponRedeemed).decode

    async def announce(request: Request) -> Response:
        """Take campaigns that were planned."""
        campaigns = await events_in(request, decode_campaign)

        async def write(session: Session) -> None:
            stage = await stage_of(session, connections.engine)
            for each in campaigns:
                days = (each.first_day.isoformat(), each.last_day.isoformat())
                await session.execute(
                    _ANNOUNCE, (each.campaign_id, each.kind, *days, stage.publishes_redemptions)
                )
                if stage.publishes_redemptions:
                    await promotions_outbox.asend(session, key=each.campaign_id, value=each)

        return await accept(request, connections, len(campaigns), write)

    async def redeem(request: Request) -> Response:
        """Take coupons that households handed in."""
        redemptions = await events_in(request, decode_redemption)

        async def write(session: Session) -> None:
            stage = await stage_of(session, connections.engine)
            # In the order of their households: two transactions never wait for each other in a circle.
            for each in sorted(redemptions, key=lambda redeemed: redeemed.household_id):
                names = (each.household_id, each.coupon_upc, each.campaign_id, each.day.isoformat())
                await session.execute(_REDEEM, (*names, stage.publishes_redemptions))
                if stage.updates:
                    await judge(session, each)
                if stage.publishes_redemptions:
                    await promotions_outbox.asend(
                        session,
                        key=each.household_id,
                        value=each,
                        headers=UPDATED if stage.updates else None,
                    )

        return await accept(request, connections, len(redemptions), write)

    async def campaign(request: Request) -> Response:
        """One campaign."""
        async with connections.reading() as session:
            found = await session.fetch(_CAMPAIGN, (request.path_params["campaign"],))
        if not found:
            return JSONResponse({"error": "NotFound"}, status_code=404)
        return JSONResponse(dict(zip(("kind", "first_day", "last_day"), found[0], strict=True)))

    async def coupons(request: Request) -> Response:
        """How many coupons a household redeemed, and how many of them did not count."""
        household = request.path_params["household"]
        async with connections.reading() as session:
            [(redeemed, corrected)] = await session.fetch(_COUPONS, (household, household))
        if not redeemed:
            return JSONResponse({"error": "NotFound"}, status_code=404)
        return JSONResponse({"redeemed": redeemed, "corrected": corrected})

    return application(
        connections,
        [
            Route("/campaigns", announce, methods=["POST"]),
            Route("/campaigns/{campaign:int}", campaign),
            Route("/redemptions", redeem, methods=["POST"]),
            Route("/coupons/{household:int}", coupons),
        ],
    )
