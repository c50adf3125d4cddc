"""The contract of the service `checkout`: what happened at the tills."""

from datetime import date, datetime

import msgspec

import headrace


class BasketLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One product of a basket.

    Shape: a JSON array in the order of the fields. A year has 1.5 million lines, and six field names
    would be three quarters of each; the order is part of the contract, new fields go to the end.
    """

    product_id: int
    quantity: int
    sales_cents: int
    """What the till took for it, all discounts already off."""
    retail_discount_cents: int
    coupon_discount_cents: int
    coupon_match_cents: int
    """What the chain put on top of the manufacturer's coupon."""


class BasketPurchased(headrace.Event, frozen=True):
    """A household paid for a basket. Sent to `checkout.events`, keyed by household."""

    household_id: int
    basket_id: int
    store_id: int
    at: datetime
    """When, in UTC."""
    day: date
    """The day on the till's own calendar, which a time in UTC does not tell."""
    lines: tuple[BasketLine, ...]

    @property
    def sales_cents(self) -> int:
        """What the household paid."""
        return sum([line.sales_cents for line in self.lines])

    @property
    def discount_cents(self) -> int:
        """What it did not have to pay: retail, coupon and coupon match discounts."""
        return sum(
            [
                line.retail_discount_cents + line.coupon_discount_cents + line.coupon_match_cents
                for line in self.lines
            ]
        )

    @property
    def has_coupon_discount(self) -> bool:
        """Whether a manufacturer's coupon took something off at least one line."""
        return any(line.coupon_discount_cents for line in self.lines)


class BasketCorrected(headrace.Correction[BasketPurchased], frozen=True, kw_only=True):
    """A product of a basket had another price than the till took. Keyed by household, like the basket.

    Only that price was wrong: what was bought, and which coupons were used, stays as it was. What is
    `before` is so after all earlier corrections of this basket.
    """

    household_id: int
    basket_id: int
    product_id: int
    price_cents_before: int
    """What the till took for the product."""
    price_cents: int
    """What it should have taken."""
    basket_cents_before: int
    """What the household paid for the whole basket."""

    @property
    def cents_by(self) -> int:
        """By how much the household's bill grows; it mostly shrinks."""
        return self.price_cents - self.price_cents_before

    @property
    def basket_cents(self) -> int:
        """What the whole basket comes to now."""
        return self.basket_cents_before + self.cents_by


CheckoutEvent = BasketPurchased | BasketCorrected
"""Everything on `checkout.events`."""
