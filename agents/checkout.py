"""What checkout does with its own facts."""

import headrace
from app.checkout import app, baskets
from schemas.checkout import BasketCorrected, BasketPurchased, CheckoutEvent
from tables.checkout import Receipt, receipts


@app.agent(baskets)
async def keep_receipts(events: headrace.Stream[CheckoutEvent]) -> None:
    """Keep each household's last receipt, with the prices that turned out to be right."""
    async for event in events:
        kept = receipts.get(event.household_id)
        match event:
            case BasketPurchased():
                receipt = Receipt.of(event)
                if kept is None or receipt.is_newer_than(kept):
                    receipts[event.household_id] = receipt
            case BasketCorrected(basket_id=basket_id):
                if kept is not None and kept.basket_id == basket_id:
                    receipts[event.household_id] = kept.corrected(event)
