"""What loyalty makes of one basket or redemption."""

from datetime import UTC, date, datetime

from schemas.checkout import BasketCorrected, BasketLine, BasketPurchased
from tables.loyalty import Balance, corrected_spend, spend_by_department

CATALOGUE = {1: "GROCERY", 2: "MEAT"}


def basket(*lines: BasketLine) -> BasketPurchased:
    return BasketPurchased(
        household_id=7,
        basket_id=1,
        store_id=1,
        at=datetime(2017, 3, 1, 1, tzinfo=UTC),
        day=date(2017, 2, 28),
        lines=lines,
    )


def test_a_basket_adds_to_spend_discounts_visits_and_points() -> None:
    bought = basket(BasketLine(1, 1, 199, 20, 0, 0), BasketLine(2, 2, 250, 0, 100, 5))
    assert Balance(100, 10, 1, 1).earn(bought) == Balance(549, 135, 2, 5)


def test_points_are_counted_per_basket_and_remainders_do_not_add_up() -> None:
    bought = basket(BasketLine(1, 1, 199, 0, 0, 0))
    assert Balance().earn(bought).earn(bought).points == 2


def test_a_redemption_that_counts_is_fifty_points_and_nothing_else() -> None:
    assert Balance(100, 10, 1, 1).reward() == Balance(100, 10, 1, 51)


def test_spend_goes_to_departments_and_unknown_products_to_unknown() -> None:
    before = {"GROCERY": 100}
    bought = basket(
        BasketLine(1, 1, 50, 0, 0, 0), BasketLine(2, 1, 300, 0, 0, 0), BasketLine(9, 1, 25, 0, 0, 0)
    )
    after = spend_by_department(before, bought, CATALOGUE)
    assert after == {"GROCERY": 150, "MEAT": 300, "UNKNOWN": 25}
    assert before == {"GROCERY": 100}


def test_only_a_manufacturers_coupon_makes_a_coupon_basket() -> None:
    assert not basket(BasketLine(1, 1, 50, 30, 0, 0)).has_coupon_discount
    assert basket(BasketLine(1, 1, 50, 0, 0, 0), BasketLine(2, 1, 50, 0, 30, 0)).has_coupon_discount


def price_corrected(before: int, now: int, *, basket_before: int, product_id: int = 1) -> BasketCorrected:
    return BasketCorrected(
        corrects="0b6f2c1e-9f4d-4c5a-8a54-0123456789ab",
        reason="yesterday's price",
        household_id=7,
        basket_id=1,
        product_id=product_id,
        price_cents_before=before,
        price_cents=now,
        basket_cents_before=basket_before,
    )


def test_a_corrected_price_counts_the_points_of_its_basket_anew_and_nothing_else() -> None:
    bought = basket(BasketLine(1, 1, 199, 20, 0, 0), BasketLine(2, 2, 250, 0, 100, 5))
    right = basket(BasketLine(1, 1, 149, 20, 0, 0), BasketLine(2, 2, 250, 0, 100, 5))
    before = Balance(100, 10, 1, 1)
    corrected = before.earn(bought).correct(price_corrected(199, 149, basket_before=449))
    assert corrected == before.earn(right)


def test_a_corrected_price_moves_the_spend_of_its_department() -> None:
    after = corrected_spend(
        {"GROCERY": 199, "MEAT": 5}, price_corrected(199, 99, basket_before=204), CATALOGUE
    )
    assert after == {"GROCERY": 99, "MEAT": 5}
    unknown = price_corrected(10, 12, basket_before=10, product_id=9)
    assert corrected_spend({}, unknown, CATALOGUE) == {"UNKNOWN": 2}
