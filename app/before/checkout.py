"""The old service checkout: it writes its baskets, and the sums that are loyalty's."""

from collections.abc import Sequence
from datetime import UTC, datetime
from operator import itemgetter

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.before.connections import Connections
from app.before.loyalty_tables import add_baskets
from app.before.service import accept, application
from app.before.stage import stage_of
from app.database import UPDATED, basket_outbox
from app.intake import events_in
from headrace.bridge.session import Session
from schemas.checkout import BasketPurchased

_BASKETS = ("basket_id", "household_id", "store_id", "epoch_s", "day", "is_published")
_LINES = (
    "basket_id", "line", "product_id", "quantity", "sales_cents", "retail_discount_cents",
    "coupon_discount_cents", "coupon_match_cents",
)  # fmt: skip
_RECEIPT = """SELECT b.basket_id, b.store_id, b.epoch_s, count(*), sum(l.sales_cents),
        sum(l.retail_discount_cents + l.coupon_discount_cents + l.coupon_match_cents)
    FROM baskets b JOIN basket_lines l ON l.basket_id = b.basket_id
    WHERE b.household_id = %s GROUP BY b.basket_id, b.store_id, b.epoch_s
    ORDER BY b.epoch_s DESC, b.basket_id DESC LIMIT 1"""


def build(connections: Connections) -> Starlette:
    """The service on these connections."""
    decode = msgspec.json.Decoder(BasketPurchased).decode

    async def purchase(request: Request) -> Response:
        """Take the baskets that a till was paid for."""
        baskets = await events_in(request, decode)

        async def write(session: Session) -> None:
            stage = await stage_of(session, connections.engine)
            await _keep(session, baskets, is_published=stage.publishes_baskets)
            if stage.updates:
                await add_baskets(session, baskets)
            if stage.publishes_baskets:
                # In the order of households, as all rows here: no two transactions wait in a circle.
                events = sorted(((each.household_id, each) for each in baskets), key=itemgetter(0))
                headers = UPDATED if stage.updates else None
                await basket_outbox.asend_many(session, events, headers=headers)

        return await accept(request, connections, len(baskets), write)

    async def receipt(request: Request) -> Response:
        """The last receipt of a household."""
        async with connections.reading() as session:
            found = await session.fetch(_RECEIPT, (request.path_params["household"],))
        if not found:
            return JSONResponse({"error": "NotFound"}, status_code=404)
        basket, store, epoch_s, items, sales, discounts = found[0]
        return JSONResponse(
            {
                "basket_id": basket,
                "store_id": store,
                "at": datetime.fromtimestamp(epoch_s, UTC).isoformat().replace("+00:00", "Z"),
                "items": items,
                "sales_cents": int(sales),
                "discount_cents": int(discounts),
            }
        )

    return application(
        connections,
        [Route("/baskets", purchase, methods=["POST"]), Route("/receipts/{household:int}", receipt)],
    )


async def _keep(session: Session, baskets: Sequence[BasketPurchased], *, is_published: bool) -> None:
    await session.copy_in(
        "baskets",
        _BASKETS,
        [
            (each.basket_id, each.household_id, each.store_id, int(each.at.timestamp()),
             each.day.isoformat(), is_published)
            for each in baskets
        ],
    )  # fmt: skip
    await session.copy_in(
        "basket_lines",
        _LINES,
        [
            (each.basket_id, number, line.product_id, line.quantity, line.sales_cents,
             line.retail_discount_cents, line.coupon_discount_cents, line.coupon_match_cents)
            for each in baskets
            for number, line in enumerate(each.lines)
        ],
    )  # fmt: skip
