"""What promotions remembers: its campaigns, and how many coupons each household redeemed."""

from datetime import date

import msgspec

import headrace
from app.promotions import app


class Campaign(msgspec.Struct, frozen=True):
    """A campaign and when it runs."""

    kind: str
    first_day: date
    last_day: date


class CouponBook(msgspec.Struct, frozen=True):
    """The coupons of one household."""

    redeemed: int = 0
    """All that it handed in, also those that turned out not to count."""
    corrected: int = 0
    """Those of them that do not count, as loyalty found."""

    def redeem(self) -> "CouponBook":
        """The book after one more redemption."""
        return CouponBook(self.redeemed + 1, self.corrected)

    def correct(self) -> "CouponBook":
        """The book after one of its redemptions turned out not to count."""
        return CouponBook(self.redeemed, self.corrected + 1)


campaigns: headrace.Table[int, Campaign] = app.Table("campaigns", key_type=int, value_type=Campaign)
coupon_books: headrace.Table[int, CouponBook] = app.Table(
    "coupon_books", key_type=int, value_type=CouponBook, default=CouponBook
)
redemptions_counting: headrace.Table[int, dict[str, bool]] = app.Table(
    "redemptions_counting", key_type=int, value_type=dict[str, bool], default=dict
)
"""Event id of each redemption of a household to whether it counts, as far as is known by now."""

app.serve(campaigns, "/campaigns")
app.serve(coupon_books, "/coupons")
