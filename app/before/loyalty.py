"""The old service loyalty: it answers from tables that the others write, too."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.before.connections import Connections
from app.before.service import application

_BALANCE = "SELECT spend_cents, discount_cents, visits, points FROM balances WHERE household_id = %s"
_SPEND = "SELECT department, cents FROM department_spend WHERE household_id = %s"
_JUDGEMENTS = "SELECT coupon_upc, campaign_id, day, is_honoured FROM judgements WHERE household_id = %s"


def build(connections: Connections) -> Starlette:
    """The service on these connections."""

    async def balance(request: Request) -> Response:
        """What a household spent, and what it earned by that."""
        async with connections.reading() as session:
            found = await session.fetch(_BALANCE, (request.path_params["household"],))
        if not found:
            return _not_found()
        return JSONResponse(
            dict(zip(("spend_cents", "discount_cents", "visits", "points"), found[0], strict=True))
        )

    async def departments(request: Request) -> Response:
        """What a household spent in each department."""
        async with connections.reading() as session:
            found = await session.fetch(_SPEND, (request.path_params["household"],))
        return JSONResponse(dict(found)) if found else _not_found()

    async def redemptions(request: Request) -> Response:
        """What a household redeemed, and whether it counts."""
        async with connections.reading() as session:
            found = await session.fetch(_JUDGEMENTS, (request.path_params["household"],))
        rows = [
            {"coupon_upc": coupon, "campaign_id": campaign, "day": day, "is_honoured": bool(is_honoured)}
            for coupon, campaign, day, is_honoured in found
        ]
        return JSONResponse(rows) if rows else _not_found()

    return application(
        connections,
        [
            Route("/balances/{household:int}", balance),
            Route("/departments/{household:int}", departments),
            Route("/redemptions/{household:int}", redemptions),
        ],
    )


def _not_found() -> Response:
    return JSONResponse({"error": "NotFound"}, status_code=404)
