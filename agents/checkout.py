"""What checkout does with its own facts."""

import headrace
from app.checkout import app, baskets
from schemas.checkout import CheckoutEvent
from tables.checkout import Receipt, receipts


@app.agent(baskets)
async def keep_receipts(events: headrace.Stream[CheckoutEvent]) -> None:
    """Keep each household's last receipt."""
    async for basket in events:
        receipt, kept = Receipt.of(basket), receipts.get(basket.household_id)
        if kept is None or receipt.is_newer_than(kept):
            receipts[basket.household_id] = receipt
