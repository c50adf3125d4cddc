"""The bridge of the chain: what services leave in the shared database is published, and comes back to it."""

from typing import Final

import headrace
from headrace import bridge
from schemas.checkout import CheckoutEvent
from schemas.promotions import PromotionsEvent

app = headrace.App("database", autodiscover=["agents.database"])

baskets: headrace.Topic[int, CheckoutEvent] = app.topic(
    "checkout.events", key_type=int, value_type=CheckoutEvent, partitions=8
)
promotions: headrace.Topic[int, PromotionsEvent] = app.topic(
    "promotions.events", key_type=int, value_type=PromotionsEvent, partitions=8
)

basket_outbox = bridge.Outbox(baskets)
promotions_outbox = bridge.Outbox(promotions)
relay = bridge.Relay(app, [basket_outbox, promotions_outbox])
applier = bridge.Applier(app, group="loyalty-tables", every_s=0.25)

ALREADY: Final = "shared-tables"
"""The header of an event that its sender has written into loyalty's tables itself."""
UPDATED: Final = {ALREADY: b"updated"}
