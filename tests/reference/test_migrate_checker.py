"""Who watches the readers of a migration: wrong answers, steps back in time and long refusals are found."""

from datetime import date

import numpy as np
import pytest

from app.grocery import Baskets, GroceryYear, HouseholdDay
from app.migrate.checker import Checker, Table, WrongAnswer
from app.migrate.history import Histories
from app.migrate.readers import Tally
from app.migrate.report import faults
from app.migrate.sold import Sold
from app.migrate.status import Load, Status
from schemas.promotions import CouponRedeemed

HOUSEHOLD = 7
DAY = date(2017, 3, 1)
UNKNOWN_PRODUCT = -1
"""No catalogue has it: its department is UNKNOWN."""


@pytest.fixture
def sold() -> Sold:
    return Sold([HOUSEHOLD])


@pytest.fixture
def checker(sold: Sold) -> Checker:
    """Of a household with baskets of 2.50, 1.99 and 3.00; the third one's coupon discount is redeemed."""
    lines = [[UNKNOWN_PRODUCT, 1, cents, 5, coupon, 0] for cents, coupon in ((250, 0), (199, 0), (300, 20))]
    baskets = Baskets(
        household_ids=[HOUSEHOLD] * 3,
        basket_ids=[1, 2, 3],
        store_ids=[1] * 3,
        epoch_s=[1, 2, 3],
        days=[1, 2, 3],
        starts=[0, 1, 2, 3],
        lines=np.array(lines, dtype=np.int64),
    )
    day = HouseholdDay([2], [CouponRedeemed(HOUSEHOLD, coupon_upc=9, campaign_id=3, day=DAY)])
    year = GroceryYear(baskets=baskets, redemptions=day.redemptions, campaigns=())
    sold.baskets[HOUSEHOLD], sold.redemptions[HOUSEHOLD] = 3, 1
    return Checker(Histories(year, 3, [day]), sold)


def balance(spend: int, discount: int, visits: int, points: int) -> dict[str, int]:
    return {"spend_cents": spend, "discount_cents": discount, "visits": visits, "points": points}


def redemption(*, is_honoured: bool = True) -> dict[str, object]:
    return {"coupon_upc": 9, "campaign_id": 3, "day": "2017-03-01", "is_honoured": is_honoured}


def test_every_prefix_of_what_was_sold_is_true(checker: Checker) -> None:
    for answer in (
        None,
        balance(250, 5, 1, 2),
        balance(449, 10, 2, 3),
        balance(749, 35, 3, 6),
        balance(749, 35, 3, 56),
    ):
        checker.judge(HOUSEHOLD, Table.BALANCES, answer)
    checker.judge(HOUSEHOLD, Table.DEPARTMENTS, {"UNKNOWN": 749})
    checker.judge(HOUSEHOLD, Table.REDEMPTIONS, [redemption()])


@pytest.mark.parametrize(
    "answer",
    [
        balance(251, 5, 1, 2),
        balance(250, 6, 1, 2),
        balance(250, 5, 2, 2),
        balance(250, 5, 1, 3),
        balance(250, 5, 1, 52),
        balance(749, 35, 4, 6),
    ],
)
def test_a_wrong_sum_is_found(checker: Checker, answer: dict[str, int]) -> None:
    with pytest.raises(WrongAnswer):
        checker.judge(HOUSEHOLD, Table.BALANCES, answer)


def test_an_answer_that_went_back_in_time_is_found_whatever_table_told_more_before(checker: Checker) -> None:
    checker.judge(HOUSEHOLD, Table.DEPARTMENTS, {"UNKNOWN": 449})
    with pytest.raises(WrongAnswer, match="1 visits after 2"):
        checker.judge(HOUSEHOLD, Table.BALANCES, balance(250, 5, 1, 2))
    with pytest.raises(WrongAnswer, match="0 visits after 2"):
        checker.judge(HOUSEHOLD, Table.BALANCES, None)
    checker.judge(HOUSEHOLD, Table.REDEMPTIONS, [redemption()])
    with pytest.raises(WrongAnswer, match="no number of baskets from 3 on"):
        checker.judge(HOUSEHOLD, Table.DEPARTMENTS, {"UNKNOWN": 449})
    with pytest.raises(WrongAnswer, match="0 redemptions after 1"):
        checker.judge(HOUSEHOLD, Table.REDEMPTIONS, None)
    with pytest.raises(WrongAnswer, match="never earned"):
        checker.judge(HOUSEHOLD, Table.BALANCES, balance(749, 35, 3, 6))


def test_an_answer_for_comparison_only_binds_no_later_one(checker: Checker) -> None:
    checker.judge(HOUSEHOLD, Table.BALANCES, balance(449, 10, 2, 3), is_kept=False)
    checker.judge(HOUSEHOLD, Table.DEPARTMENTS, {"UNKNOWN": 749}, is_kept=False)
    checker.judge(HOUSEHOLD, Table.BALANCES, balance(250, 5, 1, 2))
    checker.judge(HOUSEHOLD, Table.DEPARTMENTS, {"UNKNOWN": 250})


def test_what_was_not_sold_yet_cannot_be_answered(checker: Checker, sold: Sold) -> None:
    sold.baskets[HOUSEHOLD], sold.redemptions[HOUSEHOLD] = 2, 0
    with pytest.raises(WrongAnswer, match="3 baskets, and 2 were sold"):
        checker.judge(HOUSEHOLD, Table.BALANCES, balance(749, 35, 3, 6))
    sold.baskets[HOUSEHOLD] = 3
    with pytest.raises(WrongAnswer, match="1 redemptions, and 0 were made"):
        checker.judge(HOUSEHOLD, Table.REDEMPTIONS, [redemption()])


def test_a_redemption_that_is_judged_wrongly_is_found(checker: Checker) -> None:
    with pytest.raises(WrongAnswer):
        checker.judge(HOUSEHOLD, Table.REDEMPTIONS, [redemption(is_honoured=False)])


def test_the_report_names_a_refusal_of_more_than_a_second_and_a_wrong_read() -> None:
    tally = Tally(reads=10, wrong=1, longest_refusal_s=1.2, examples=["balances of household 7: too many"])
    found = list(faults(Status(database="sqlite", baskets_per_s=1.0, reads_per_s=1.0, tally=tally)))
    assert "a read was refused for 1.20 s" in found
    assert "1 reads were answered wrongly, first: balances of household 7: too many" in found


def test_a_load_that_did_not_fall_is_told_if_both_times_as_much_was_sold_and_read() -> None:
    status = Status(database="sqlite", baskets_per_s=10.0, reads_per_s=100.0, tally=Tally())
    status.before = Load(8.0, {"loyalty": 100.0}, baskets_per_s=10.0, reads_per_s=100.0)
    status.after = Load(8.0, {"bridge": 101.0}, baskets_per_s=9.0, reads_per_s=98.0)
    assert "the load on the shared database did not fall" in list(faults(status))
    status.after = Load(8.0, {"bridge": 99.0}, baskets_per_s=9.0, reads_per_s=98.0)
    assert "the load on the shared database did not fall" not in list(faults(status))
    status.after = Load(8.0, {"bridge": 101.0}, baskets_per_s=9.0, reads_per_s=20.0)
    assert not status.is_load_comparable
