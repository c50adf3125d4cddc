"""The year as the replay plays it: complete, in order, and exact."""

from datetime import UTC, date, datetime
from itertools import pairwise

import msgspec
import pytest

from app.catalogue import UNKNOWN, departments
from app.grocery import GroceryYear, load_year
from schemas.checkout import BasketLine, BasketPurchased


@pytest.fixture(scope="module")
def year() -> GroceryYear:
    return load_year()


def test_the_year_is_complete(year: GroceryYear) -> None:
    assert len(year.baskets) == 155_848
    assert len(year.baskets.lines) == 1_469_307
    assert len(set(year.baskets.basket_ids)) == 155_848
    assert len(set(year.baskets.household_ids)) == 2_469
    assert len(year.redemptions) == 2_102
    assert len(year.campaigns) == 27


def test_every_line_belongs_to_exactly_one_basket(year: GroceryYear) -> None:
    starts = year.baskets.starts
    assert starts[0] == 0
    assert starts[-1] == len(year.baskets.lines)
    assert all(before < after for before, after in pairwise(starts))


def test_baskets_come_in_the_order_of_time(year: GroceryYear) -> None:
    assert all(before <= after for before, after in pairwise(year.baskets.epoch_s))


def test_money_is_in_whole_cents_and_no_cent_is_lost(year: GroceryYear) -> None:
    assert year.baskets.lines[:, 2:].sum(axis=0).tolist() == [459_603_958, 79_165_064, 2_635_990, 454_265]


def test_a_basket_is_what_the_till_rang_up(year: GroceryYear) -> None:
    assert year.baskets[0] == BasketPurchased(
        household_id=900,
        basket_id=31198570044,
        store_id=330,
        at=datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC),
        day=date(2017, 1, 1),
        lines=(BasketLine(1095275, 1, 50, 0, 0, 0),),
    )


def test_a_basket_after_midnight_in_utc_belongs_to_the_day_before_at_the_till(year: GroceryYear) -> None:
    evening = next(basket for basket in year.baskets if basket.at.hour == 2)
    assert (evening.at.date() - evening.day).days == 1


def test_a_basket_reads_back_from_its_wire_form(year: GroceryYear) -> None:
    for basket in year.baskets[::10_000]:
        assert msgspec.json.decode(msgspec.json.encode(basket), type=BasketPurchased) == basket


def test_every_redemption_belongs_to_a_household_day_with_baskets(year: GroceryYear) -> None:
    days = year.days_with_redemption()
    assert len(days) == 1_107
    assert sum(len(day.baskets) for day in days) == 1_400
    assert sum(len(day.redemptions) for day in days) == 2_102
    for day in days:
        baskets = [year.baskets[index] for index in day.baskets]
        at = {(basket.household_id, basket.day) for basket in baskets}
        assert at == {(redeemed.household_id, redeemed.day) for redeemed in day.redemptions}
        assert len(at) == 1


def test_the_coupon_baskets_of_its_own_day_decide_on_1935_of_2102_redemptions(year: GroceryYear) -> None:
    honoured = [
        any(year.baskets[index].has_coupon_discount for index in day.baskets)
        for day in year.days_with_redemption()
        for _ in day.redemptions
    ]
    assert (sum(honoured), len(honoured) - sum(honoured)) == (1_935, 167)


def test_the_catalogue_knows_all_products_but_those_of_4836_lines(year: GroceryYear) -> None:
    known = departments()
    assert len(known) == 92_331
    assert UNKNOWN not in known.values()
    assert sum(product not in known for product in year.baskets.lines[:, 0].tolist()) == 4_836
