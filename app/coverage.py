"""How far loyalty's tables have come, as its reads tell."""

from collections.abc import Sequence
from typing import NamedTuple

from app.client import Client, NoAnswer
from headrace.events.seen import NAME_BYTES, Print, Seen, name_print
from headrace.events.token import Token
from schemas.promotions import CouponRedeemed

_BASKETS = name_print("checkout.events")


class Due(NamedTuple):
    """Redemptions of one household and day, and how far checkout was when that day's baskets were in."""

    token: Token
    redemptions: Sequence[CouponRedeemed]

    @property
    def household_id(self) -> int:
        """The household."""
        return self.redemptions[0].household_id


class Coverage:
    """Finds out whether loyalty has applied a household's baskets up to a token."""

    def __init__(self, loyalty: Client) -> None:
        self._loyalty = loyalty
        self._reached: dict[Print, int] = {}
        self._places: dict[int, Print] = {}
        """Household to the partition of its baskets, as learnt from reads."""

    def split(self, waiting: Sequence[Due]) -> tuple[list[Due], list[Due]]:
        """The covered ones, and those that still have to wait; asks once for each partition at most."""
        covered: list[Due] = []
        uncovered: list[Due] = []
        asked: set[Print | None] = set()
        for due in waiting:
            place = self._places.get(due.household_id)
            if place is None or (place not in asked and not self._covers(place, due.token)):
                place = self._ask(due.household_id)
                asked.add(place)
            is_covered = place is not None and self._covers(place, due.token)
            (covered if is_covered else uncovered).append(due)
        return covered, uncovered

    def _covers(self, place: Print, token: Token) -> bool:
        # A batch of baskets spans several partitions; only that of the household matters here.
        return Seen(self._reached).covers(Seen({place: token.seen.get(place, 0)}))

    def _ask(self, household_id: int) -> Print | None:
        """Read the household's row for its position; None while loyalty has none of its partition."""
        answer = self._loyalty.get(f"/balances/{household_id}")
        if answer.status not in (200, 404, 503):
            raise NoAnswer(f"loyalty answers {answer.status} for household {household_id}")
        if answer.position is None:
            return None
        for place, offset in answer.position.seen.items():
            if place[:NAME_BYTES] == _BASKETS:
                self._reached[place] = offset
                self._places[household_id] = place
                return place
        return None
