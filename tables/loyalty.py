"""What loyalty remembers of each household; all of it is keyed by household, as its inputs are."""

from collections.abc import Mapping
from datetime import date

import msgspec

import headrace
from app.catalogue import UNKNOWN
from app.loyalty import app
from schemas.checkout import BasketCorrected, BasketPurchased

CENTS_PER_POINT = 100
POINTS_PER_REDEMPTION = 50


class Balance(msgspec.Struct, frozen=True):
    """What a household spent, and what it earned by that."""

    spend_cents: int = 0
    discount_cents: int = 0
    visits: int = 0
    points: int = 0

    def earn(self, basket: BasketPurchased) -> "Balance":
        """The balance after a basket: a point for every whole dollar of it."""
        spend_cents = basket.sales_cents
        return Balance(
            self.spend_cents + spend_cents,
            self.discount_cents + basket.discount_cents,
            self.visits + 1,
            self.points + spend_cents // CENTS_PER_POINT,
        )

    def correct(self, correction: BasketCorrected) -> "Balance":
        """The balance after a basket turned out to cost something else: its points are counted anew."""
        points = (
            correction.basket_cents // CENTS_PER_POINT - correction.basket_cents_before // CENTS_PER_POINT
        )
        return Balance(
            self.spend_cents + correction.cents_by, self.discount_cents, self.visits, self.points + points
        )

    def reward(self) -> "Balance":
        """The balance after a redemption that counts."""
        return Balance(
            self.spend_cents, self.discount_cents, self.visits, self.points + POINTS_PER_REDEMPTION
        )


class Redemption(msgspec.Struct, frozen=True):
    """A coupon that the household redeemed, and what loyalty made of it."""

    coupon_upc: int
    campaign_id: int
    day: date
    is_honoured: bool


def spend_by_department(
    spend: Mapping[str, int], basket: BasketPurchased, department_of: Mapping[int, str]
) -> dict[str, int]:
    """Cents per department after a basket; `department_of` is the catalogue."""
    sums = dict(spend)
    for line in basket.lines:
        department = department_of.get(line.product_id, UNKNOWN)
        sums[department] = sums.get(department, 0) + line.sales_cents
    return sums


def corrected_spend(
    spend: Mapping[str, int], correction: BasketCorrected, department_of: Mapping[int, str]
) -> dict[str, int]:
    """Cents per department after a product turned out to cost something else."""
    department = department_of.get(correction.product_id, UNKNOWN)
    return {**spend, department: spend.get(department, 0) + correction.cents_by}


balances: headrace.Table[int, Balance] = app.Table(
    "balances", key_type=int, value_type=Balance, default=Balance
)
department_spend: headrace.Table[int, dict[str, int]] = app.Table(
    "department_spend", key_type=int, value_type=dict[str, int], default=dict
)
coupon_days: headrace.Table[int, tuple[date, ...]] = app.Table(
    "coupon_days", key_type=int, value_type=tuple[date, ...], default=tuple
)
"""Days on which the household has a basket with a coupon discount: what makes a redemption count."""
redemptions: headrace.Table[int, tuple[Redemption, ...]] = app.Table(
    "redemptions", key_type=int, value_type=tuple[Redemption, ...], default=tuple
)

app.serve(balances, "/balances")
app.serve(department_spend, "/departments")
app.serve(redemptions, "/redemptions")
