"""What a household's tables may say at all: its sums after each of its baskets, and each of its redemptions.

Folded here once more, straight from the files: nothing of the services is used. `app.truth` sums up whole
households by pyarrow; this tells of every prefix.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from app.catalogue import UNKNOWN, departments
from app.grocery import GroceryYear, HouseholdDay

CENTS_PER_POINT = 100
POINTS_PER_REDEMPTION = 50
_LINE_SALES, _LINE_RETAIL, _LINE_COUPON, _LINE_MATCH = 2, 3, 4, 5


class Judgement(NamedTuple):
    """A redemption as loyalty's tables must have it."""

    coupon_upc: int
    campaign_id: int
    day: str
    is_honoured: bool


class Sums(NamedTuple):
    """A balance without what redemptions earned."""

    spend_cents: int = 0
    discount_cents: int = 0
    points: int = 0

    def after(self, spend_cents: int, discount_cents: int) -> "Sums":
        """The sums after one more basket."""
        points = self.points + spend_cents // CENTS_PER_POINT
        return Sums(self.spend_cents + spend_cents, self.discount_cents + discount_cents, points)


def _nothing() -> list[Sums]:
    return [Sums()]


@dataclass(slots=True)
class History:
    """One household, in the order in which it is sold to."""

    sums: list[Sums] = field(default_factory=_nothing)
    """After so many baskets."""
    lines: list[tuple[int, int]] = field(default_factory=list)
    """Of each basket: where its lines begin in the year, and where they end."""
    judgements: list[Judgement] = field(default_factory=list)
    baskets_before: list[int] = field(default_factory=list)
    """Of each redemption: how many baskets were sold when it was made."""

    @property
    def baskets(self) -> int:
        """How many there are."""
        return len(self.lines)


class Histories:
    """All households of a part of the year."""

    def __init__(self, year: GroceryYear, baskets: int, days: Sequence[HouseholdDay]) -> None:
        self._lines = year.baskets.lines
        self._department_of = departments()
        self._households: dict[int, History] = defaultdict(History)
        self._fill(year, baskets, days)

    def __getitem__(self, household: int) -> History:
        return self._households[household]

    @property
    def households(self) -> Sequence[int]:
        """Everybody who buys something."""
        return sorted(self._households)

    def spend(self, household: int, basket: int) -> Mapping[str, int]:
        """Cents per department of one of its baskets."""
        start, end = self[household].lines[basket]
        spend: dict[str, int] = defaultdict(int)
        for product, _, cents, *_ in self._lines[start:end].tolist():
            spend[self._department_of.get(product, UNKNOWN)] += cents
        return spend

    def _fill(self, year: GroceryYear, baskets: int, days: Sequence[HouseholdDay]) -> None:
        starts = np.asarray(year.baskets.starts[: baskets + 1])
        lines = self._lines[: starts[-1]]
        sums = np.add.reduceat(lines, starts[:-1], axis=0)
        discounts = sums[:, _LINE_RETAIL] + sums[:, _LINE_COUPON] + sums[:, _LINE_MATCH]
        has_coupon = sums[:, _LINE_COUPON] > 0
        ending = {day.baskets[-1]: day for day in days}
        for at, (spend, discount) in enumerate(
            zip(sums[:, _LINE_SALES].tolist(), discounts.tolist(), strict=True)
        ):
            history = self._households[year.baskets.household_ids[at]]
            history.sums.append(history.sums[-1].after(spend, discount))
            history.lines.append((year.baskets.starts[at], year.baskets.starts[at + 1]))
            if (day := ending.get(at)) is not None:
                is_honoured = bool(has_coupon[list(day.baskets)].any())
                for redeemed in day.redemptions:
                    names = (redeemed.coupon_upc, redeemed.campaign_id, redeemed.day.isoformat())
                    history.judgements.append(Judgement(*names, is_honoured))
                    history.baskets_before.append(history.baskets)
