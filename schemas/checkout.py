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


CheckoutEvent = BasketPurchased
"""Everything on `checkout.events`; a union as soon as there is a second kind of fact."""
