"""The ground truth: the figures that the whole demo is measured against."""

from datetime import date, timedelta

import pytest

from app.truth import Part, Truth, load_truth


@pytest.fixture(scope="module")
def truth() -> Truth:
    return load_truth()


def test_all_households_baskets_and_lines_are_in_it(truth: Truth) -> None:
    assert len(truth.households) == 2_469
    assert truth.baskets == 155_848
    assert truth.lines == 1_469_307


def test_the_sums_are_those_of_the_files(truth: Truth) -> None:
    households = truth.households.values()
    assert sum(household.spend_cents for household in households) == 459_603_958
    assert sum(household.discount_cents for household in households) == 79_165_064 + 2_635_990 + 454_265


def test_1935_redemptions_count_and_167_do_not(truth: Truth) -> None:
    assert truth.honoured == 1_935
    assert truth.corrected == 167


def test_departments_add_up_to_the_spend_of_each_household(truth: Truth) -> None:
    for household in truth.households.values():
        assert sum(household.departments.values()) == household.spend_cents


def test_lines_that_the_catalogue_does_not_know_are_in_department_unknown(truth: Truth) -> None:
    assert truth.lines_unknown == 4_836
    assert any("UNKNOWN" in household.departments for household in truth.households.values())


def test_points_are_whole_dollars_of_each_basket_and_fifty_per_redemption(truth: Truth) -> None:
    for household in truth.households.values():
        of_baskets = household.points - 50 * household.honoured
        most = household.spend_cents // 100
        assert most - household.visits <= of_baskets <= most


def test_a_part_of_the_year_holds_what_happened_before_its_day(truth: Truth) -> None:
    quarter = Part.before(date(2017, 4, 1))
    part = load_truth(quarter)
    assert (part.baskets, part.lines, part.honoured + part.corrected) == (37_560, 363_318, 95)
    for key, household in part.households.items():
        whole = truth.households[key]
        assert household.spend_cents <= whole.spend_cents
        assert household.visits <= whole.visits
        assert sum(household.departments.values()) == household.spend_cents


def test_two_parts_that_share_nothing_add_up_to_the_year(truth: Truth) -> None:
    year, quarter = Part.before(date(2018, 1, 1)), Part.before(date(2017, 4, 1))
    rest = Part(
        set(year.basket_ids) - set(quarter.basket_ids), set(year.redemptions) - set(quarter.redemptions)
    )
    sums = [load_truth(part) for part in (quarter, rest)]
    for field in ("spend_cents", "discount_cents", "visits", "points", "honoured", "corrected"):
        of_parts = sum(getattr(each, field) for part in sums for each in part.households.values())
        assert of_parts == sum(getattr(each, field) for each in truth.households.values())


def test_a_redemption_without_its_basket_does_not_count() -> None:
    quarter = Part.before(date(2017, 4, 1))
    buying = load_truth(quarter)
    [redeemed, *_] = [
        each for each in quarter.redemptions if not buying.households[each.household_id].corrected
    ]
    household = redeemed.household_id
    on_that_day = _baskets_on(redeemed.day)
    without = load_truth(Part(set(quarter.basket_ids) - on_that_day, [redeemed]))
    assert (without.households[household].honoured, without.households[household].corrected) == (0, 1)


def _baskets_on(day: date) -> set[int]:
    return set(Part.before(day + timedelta(days=1)).basket_ids) - set(Part.before(day).basket_ids)
