"""The ground truth: the figures that the whole demo is measured against."""

import pytest

from app.truth import Truth, load_truth


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
