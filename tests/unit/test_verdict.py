"""The verdict finds every difference, however small."""

from typing import Any

from app.truth import Household, Truth
from app.verdict import Answers, Verdict, compare

TRUTH = Truth(
    households={
        7: Household(
            spend_cents=500,
            discount_cents=20,
            visits=2,
            points=54,
            honoured=1,
            corrected=1,
            departments={"MEAT": 300, "DELI": 200},
        )
    },
    lines=3,
    lines_unknown=0,
)
TABLES: dict[str, dict[int, Any]] = {
    "balances": {7: {"spend_cents": 500, "discount_cents": 20, "visits": 2, "points": 54}},
    "departments": {7: {"DELI": 200, "MEAT": 300}},
    "redemptions": {7: [{"is_honoured": True}, {"is_honoured": False}]},
    "coupons": {7: {"redeemed": 2, "corrected": 1}},
}


def verdict(change: dict[str, dict[int, Any]] | None = None) -> Verdict:
    return compare(TRUTH, Answers(**{**TABLES, **(change or {})}))


def wrong(found: Verdict) -> list[str]:
    return [finding.what for finding in found.findings if not finding.is_exact]


def test_tables_that_equal_the_truth_are_exact() -> None:
    assert verdict().is_exact
    assert verdict().corrected == 1


def test_a_single_cent_is_found() -> None:
    balance = {**TABLES["balances"][7], "spend_cents": 501}
    assert wrong(verdict({"balances": {7: balance}})) == ["spend, cents"]


def test_spend_in_the_wrong_department_is_found_although_the_sum_is_right() -> None:
    assert wrong(verdict({"departments": {7: {"DELI": 300, "MEAT": 200}}})) == ["spend per department"]


def test_errors_of_two_households_do_not_cancel_out() -> None:
    truth = Truth(households={1: Household(visits=1), 2: Household(visits=2)}, lines=0, lines_unknown=0)
    rows = {key: {"spend_cents": 0, "discount_cents": 0, "visits": 3 - key, "points": 0} for key in (1, 2)}
    answers = Answers(balances=rows, departments={}, redemptions={}, coupons={})
    assert wrong(compare(truth, answers)) == ["visits"]


def test_a_household_that_should_not_exist_is_found() -> None:
    stranger = {"spend_cents": 0, "discount_cents": 0, "visits": 1, "points": 0}
    assert not verdict({"balances": {**TABLES["balances"], 8: stranger}}).is_exact


def test_a_missing_row_is_found_even_where_the_truth_is_zero() -> None:
    truth = Truth(households={7: Household()}, lines=0, lines_unknown=0)
    answers = Answers(balances={}, departments={}, redemptions={}, coupons={})
    assert not compare(truth, answers).is_exact


def test_corrections_that_promotions_has_not_heard_of_are_found() -> None:
    late = Answers(**{**TABLES, "coupons": {7: {"redeemed": 2, "corrected": 0}}})
    assert wrong(compare(TRUTH, late)) == ["corrected in them"]


def test_a_redemption_that_promotions_took_twice_is_found() -> None:
    twice = {"coupons": {7: {"redeemed": 3, "corrected": 1}}}
    assert wrong(verdict(twice)) == ["in coupon books"]


def test_a_finding_names_how_many_households_are_wrong() -> None:
    found = verdict({"redemptions": {}})
    assert {f.what: f.households_wrong for f in found.findings if not f.is_exact} == {
        "redemptions honoured": 1,
        "redemptions corrected": 1,
    }
