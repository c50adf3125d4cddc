"""The service `checkout`: the tills' facts come in here, and the others hear of them."""

from starlette.requests import Request
from starlette.responses import Response

import headrace
from app.intake import Intake
from schemas.checkout import BasketPurchased, CheckoutEvent

app = headrace.App("checkout", autodiscover=["agents.checkout"])

baskets: headrace.Topic[int, CheckoutEvent] = app.topic(
    "checkout.events", key_type=int, value_type=CheckoutEvent, partitions=8
)

_purchases = Intake(BasketPurchased, lambda basket: baskets.send(key=basket.household_id, value=basket))


@app.route("/baskets", methods=["POST"])
async def purchase(request: Request) -> Response:
    """Take the baskets that a till was paid for."""
    return await _purchases.accept(request)
