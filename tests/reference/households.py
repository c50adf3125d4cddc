"""A part of the year: the households that ever redeem a coupon, with all of their baskets."""

from dataclasses import replace

import numpy as np

from app.grocery import Baskets, GroceryYear
from app.truth import Truth


def redeeming(year: GroceryYear) -> frozenset[int]:
    """The households with a redemption."""
    return frozenset(redeemed.household_id for redeemed in year.redemptions)


def part_of(year: GroceryYear, households: frozenset[int]) -> GroceryYear:
    """The year of these households; all campaigns are in it."""
    whole = year.baskets
    kept = [index for index, household in enumerate(whole.household_ids) if household in households]
    spans = [range(whole.starts[index], whole.starts[index + 1]) for index in kept]
    baskets = Baskets(
        household_ids=[whole.household_ids[index] for index in kept],
        basket_ids=[whole.basket_ids[index] for index in kept],
        store_ids=[whole.store_ids[index] for index in kept],
        epoch_s=[whole.epoch_s[index] for index in kept],
        days=[whole.days[index] for index in kept],
        starts=np.cumsum([0, *map(len, spans)]).tolist(),
        lines=np.concatenate([whole.lines[span.start : span.stop] for span in spans]),
    )
    redemptions = [redeemed for redeemed in year.redemptions if redeemed.household_id in households]
    return GroceryYear(baskets=baskets, redemptions=redemptions, campaigns=year.campaigns)


def truth_of(truth: Truth, households: frozenset[int]) -> Truth:
    """What is true of these households."""
    kept = {key: household for key, household in truth.households.items() if key in households}
    return replace(truth, households=kept)
