"""When a household's redemptions may follow its baskets."""

from datetime import date

from app.client import Answer, Client
from app.coverage import Coverage, Due
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.token import Token
from schemas.promotions import CouponRedeemed

CATALOG = Catalog("cluster", {"checkout.events": "a", "promotions.events": "b"})
PLACES = {1: 0, 2: 1, 3: 1}
"""Household to partition."""


class Loyalty(Client):
    """Loyalty as its reads show it: a position for each partition of checkout's events."""

    def __init__(self, *offsets: int | None) -> None:
        super().__init__("127.0.0.1:1")
        self.offsets = list(offsets)
        self.asked: list[str] = []

    def get(self, path: str) -> Answer:
        self.asked.append(path)
        partition = PLACES[int(path.rpartition("/")[2])]
        offset = self.offsets[partition]
        if offset is None:
            return Answer(503, None, b"")
        return Answer(200, token({("checkout.events", partition): offset, ("promotions.events", 0): 1}), b"")


def token(offsets: dict[tuple[str, int], int]) -> Token:
    return Token.of(Position({TopicPartition(*place): at for place, at in offsets.items()}), CATALOG)


def due(household_id: int, *offsets: int) -> Due:
    baskets = {("checkout.events", partition): offset for partition, offset in enumerate(offsets)}
    return Due(token(baskets), [CouponRedeemed(household_id, 1, 1, date(2017, 1, 1))])


def test_redemptions_wait_until_loyalty_has_the_baskets_of_their_day() -> None:
    loyalty = Loyalty(4, 9)
    coverage = Coverage(loyalty)
    waiting = [due(1, 5, 0)]
    assert coverage.split(waiting) == ([], waiting)
    loyalty.offsets[0] = 5
    assert coverage.split(waiting) == (waiting, [])


def test_other_partitions_of_the_same_batch_do_not_matter() -> None:
    ready = due(1, 5, 100)
    assert Coverage(Loyalty(5, 0)).split([ready]) == ([ready], [])


def test_a_partition_that_does_not_answer_covers_nothing() -> None:
    waiting = [due(1, 5, 0)]
    assert Coverage(Loyalty(None, 9)).split(waiting) == ([], waiting)


def test_a_partition_is_asked_once_for_all_that_wait_on_it() -> None:
    loyalty = Loyalty(0, 3)
    coverage = Coverage(loyalty)
    coverage.split([due(2, 0, 8), due(3, 0, 8)])  # where they live must be learnt first
    loyalty.asked.clear()
    waiting = [due(2, 0, 8), due(3, 0, 8), due(2, 0, 9)]
    assert coverage.split(waiting) == ([], waiting)
    assert loyalty.asked == ["/balances/2"]
