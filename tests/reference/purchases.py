"""Events of the reference system, as tests make them: short where the test does not care."""

from datetime import UTC, date, datetime

from schemas.checkout import BasketLine, BasketPurchased
from schemas.promotions import CouponRedeemed

DAY = date(2017, 3, 1)
UNKNOWN_PRODUCT = 0
"""A product that the catalogue does not know."""


def line(sales_cents: int, *, coupon_cents: int = 0, product_id: int = UNKNOWN_PRODUCT) -> BasketLine:
    """One product of a basket."""
    return BasketLine(product_id, 1, sales_cents, 0, coupon_cents, 0)


def basket(household_id: int, *lines: BasketLine, day: date = DAY, basket_id: int = 1) -> BasketPurchased:
    """A basket of a household."""
    at = datetime(day.year, day.month, day.day, 17, tzinfo=UTC)
    return BasketPurchased(
        household_id=household_id, basket_id=basket_id, store_id=1, at=at, day=day, lines=lines
    )


def coupon(household_id: int, *, day: date = DAY, coupon_upc: int = 5) -> CouponRedeemed:
    """A coupon that a household handed in."""
    return CouponRedeemed(household_id=household_id, coupon_upc=coupon_upc, campaign_id=3, day=day)
