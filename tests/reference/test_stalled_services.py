"""Redemptions are judged by the baskets they follow, however far the services fall behind each other.

Each run rings up every household-day with a redemption, in an order of its own, while services stand
still at random. A failure names its seed.
"""

import asyncio
import logging
import os
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import pytest

import headrace
from app.grocery import GroceryYear, HouseholdDay, load_year
from app.loyalty import app as loyalty
from app.promotions import app as promotions
from headrace.events.envelope import Envelope, encode_envelope, encode_output
from headrace.flow import hand, sending
from headrace.testing import Harness, harness
from tables.loyalty import Redemption, balances, redemptions
from tables.promotions import coupon_books
from tests.reference.test_services import SERVICES, key
from tests.reference.tills import Stalls, Tills

logger = logging.getLogger(__name__)

RUNS = int(os.environ.get("HEADRACE_TEST_STALLED_RUNS", "8"))
"""`HEADRACE_TEST_STALLED_RUNS=20` and `HEADRACE_TEST_CONTROL_RUNS=20` take two minutes more."""
CONTROL_RUNS = int(os.environ.get("HEADRACE_TEST_CONTROL_RUNS", "6"))
_UNIT_RECORDS = (4, 40)
"""With units so small, what a service has missed takes it many of them to catch up with."""


class Counts(NamedTuple):
    """What loyalty made of the redemptions, and what promotions heard of it."""

    honoured: int
    corrected: int
    booked: int
    corrected_in_books: int


EXACT = Counts(1_935, 167, 2_102, 167)


@pytest.fixture(scope="module")
def year() -> GroceryYear:
    return load_year()


@pytest.mark.parametrize("seed", range(RUNS))
async def test_each_redemption_is_judged_after_its_baskets_whatever_stands_still(
    seed: int, year: GroceryYear
) -> None:
    days = _shuffled(year, seed)
    async with harness(*SERVICES, key=key, settings=_settings(seed)) as h:
        assert await _play(h, year, days, seed) == EXACT
        for household, truth in _truth(year, days).items():
            assert Counter(h[loyalty].table(redemptions)[household]) == truth.redemptions
            assert h[loyalty].table(balances)[household].points == truth.points
        assert not h[loyalty].dead_letters()


async def test_without_stamps_the_counts_are_wrong_in_at_least_half_of_the_runs(
    year: GroceryYear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "encode_envelope", _encode_without_stamp)
    monkeypatch.setattr(hand, "encode_output", _encode_output_without_stamp)
    wrong = 0
    for seed in range(CONTROL_RUNS):
        async with harness(*SERVICES, key=key, settings=_settings(seed)) as h:
            wrong += await _play(h, year, _shuffled(year, seed), seed) != EXACT
    logger.info("without stamps the counts are wrong in %d of %d runs", wrong, CONTROL_RUNS)
    assert wrong * 2 >= CONTROL_RUNS


def _encode_without_stamp(envelope: Envelope) -> Any:
    return encode_envelope(msgspec.structs.replace(envelope, stamp=b""))


def _encode_output_without_stamp(event_id: bytes, time_ms: int, causes: bytes, stamp: bytes) -> Any:
    return encode_output(event_id, time_ms, causes, b"")


@dataclass(slots=True)
class Truth:
    """What a household's tables must hold after these days, straight from the baskets of each day."""

    points: int = 0
    redemptions: Counter[Redemption] = field(default_factory=Counter)


def _truth(year: GroceryYear, days: Sequence[HouseholdDay]) -> dict[int, Truth]:
    truth: dict[int, Truth] = defaultdict(Truth)
    for day in days:
        baskets = [year.baskets[at] for at in day.baskets]
        is_honoured = any(basket.has_coupon_discount for basket in baskets)
        of_household = truth[baskets[0].household_id]
        of_household.points += sum(basket.sales_cents // 100 for basket in baskets)
        of_household.points += 50 * is_honoured * len(day.redemptions)
        of_household.redemptions.update(
            Redemption(each.coupon_upc, each.campaign_id, each.day, is_honoured) for each in day.redemptions
        )
    return truth


def _settings(seed: int) -> headrace.Settings:
    units = random.Random(seed).randint(*_UNIT_RECORDS)
    return msgspec.structs.replace(loyalty.settings_in_code(), unit_records_max=units)


def _shuffled(year: GroceryYear, seed: int) -> Sequence[HouseholdDay]:
    days = list(year.days_with_redemption())
    random.Random(seed).shuffle(days)
    return days


async def _play(h: Harness, year: GroceryYear, days: Sequence[HouseholdDay], seed: int) -> Counts:
    """Ring up the days while services stand still; the counts once all is quiet."""
    stalls = Stalls(h, random.Random(seed))
    disturbing = asyncio.create_task(stalls.run(), name="stalls")
    try:
        await Tills(h, year).ring_up(days)
    finally:
        disturbing.cancel()
        await asyncio.wait({disturbing})
    await h.quiet()
    judged = [each for _, rows in h[loyalty].table(redemptions).items() for each in rows]
    books = [book for _, book in h[promotions].table(coupon_books).items()]
    counts = Counts(
        honoured=sum(each.is_honoured for each in judged),
        corrected=sum(not each.is_honoured for each in judged),
        booked=sum(book.redeemed for book in books),
        corrected_in_books=sum(book.corrected for book in books),
    )
    logger.info("seed %d, %d stalls: %s", seed, stalls.count, counts)
    assert stalls.count > len(h.apps), "nothing stood still"
    return counts
