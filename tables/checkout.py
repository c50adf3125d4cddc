"""What checkout remembers: the last receipt of each household."""

from datetime import datetime

import msgspec
from msgspec.structs import replace

import headrace
from app.checkout import app
from schemas.checkout import BasketCorrected, BasketPurchased


class Receipt(msgspec.Struct, frozen=True):
    """A basket as it stands on a receipt."""

    basket_id: int
    store_id: int
    at: datetime
    items: int
    sales_cents: int
    discount_cents: int

    @classmethod
    def of(cls, basket: BasketPurchased) -> "Receipt":
        """The receipt of a basket."""
        return cls(
            basket_id=basket.basket_id,
            store_id=basket.store_id,
            at=basket.at,
            items=len(basket.lines),
            sales_cents=basket.sales_cents,
            discount_cents=basket.discount_cents,
        )

    def corrected(self, correction: BasketCorrected) -> "Receipt":
        """The receipt with the price that turned out to be right."""
        return replace(self, sales_cents=self.sales_cents + correction.cents_by)

    def is_newer_than(self, other: "Receipt") -> bool:
        """Whether it was printed after the other: the tills and the feed do not send in order of time."""
        return (self.at, self.basket_id) > (other.at, other.basket_id)


receipts: headrace.Table[int, Receipt] = app.Table("receipts", key_type=int, value_type=Receipt)

app.serve(receipts, "/receipts")
