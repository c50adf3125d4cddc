"""The service `loyalty`: the first that was taken out of the shared database; it listens and answers."""

import headrace
from schemas.checkout import CheckoutEvent
from schemas.loyalty import LoyaltyEvent
from schemas.promotions import PromotionsEvent

app = headrace.App("loyalty", autodiscover=["agents.loyalty"])

baskets: headrace.Topic[int, CheckoutEvent] = app.topic(
    "checkout.events", key_type=int, value_type=CheckoutEvent, partitions=8
)
promotions: headrace.Topic[int, PromotionsEvent] = app.topic(
    "promotions.events", key_type=int, value_type=PromotionsEvent, partitions=8
)
corrections: headrace.Topic[int, LoyaltyEvent] = app.topic(
    "loyalty.events", key_type=int, value_type=LoyaltyEvent, partitions=8
)
