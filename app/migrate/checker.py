"""Whether an answer of loyalty is true.

It is when it says what a household's tables were after some of its baskets: not fewer than were in an earlier
answer, and not more than were sold by then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from app.migrate.history import POINTS_PER_REDEMPTION, Histories, History, Judgement, Sums
from app.migrate.sold import Sold


class Table(StrEnum):
    """What is asked of loyalty."""

    BALANCES = "balances"
    DEPARTMENTS = "departments"
    REDEMPTIONS = "redemptions"


class WrongAnswer(Exception):
    """The answer is what no table ever was, or what it was before."""


@dataclass(slots=True)
class _Seen:
    """What was answered to a household so far: at least so much is in every later answer."""

    baskets: int = 0
    redemptions: int = 0
    spend_at: int = 0
    """After so many baskets `spend` is what was spent per department."""
    spend: dict[str, int] = field(default_factory=dict)


class Checker:
    """Judges answers; those to one household come in the order in which it asked."""

    def __init__(self, histories: Histories, sold: Sold) -> None:
        self._histories = histories
        self._sold = sold
        self._seen = {household: _Seen() for household in histories.households}

    def judge(self, household: int, table: Table, answer: Any, *, is_kept: bool = True) -> None:
        """Judge an answer (None: there is no row); `is_kept`: no later one may be behind it.

        Raises: WrongAnswer.
        """
        seen = self._seen[household]
        match table:
            case Table.BALANCES:
                found = self._balance(household, answer)
            case Table.DEPARTMENTS:
                found = self._departments(household, answer, is_kept=is_kept)
            case Table.REDEMPTIONS:
                found = self._redemptions(household, answer)
        baskets, redemptions = found
        if baskets is not None and baskets > self._sold.baskets[household]:
            raise WrongAnswer(f"it has {baskets} baskets, and {self._sold.baskets[household]} were sold")
        if redemptions is not None and redemptions > self._sold.redemptions[household]:
            raise WrongAnswer(
                f"it has {redemptions} redemptions, and {self._sold.redemptions[household]} were made"
            )
        if is_kept:
            seen.baskets = max(seen.baskets, baskets or 0)
            seen.redemptions = max(seen.redemptions, redemptions or 0)

    def _balance(self, household: int, answer: Mapping[str, int] | None) -> tuple[int, int | None]:
        history, seen = self._histories[household], self._seen[household]
        balance = answer or {"spend_cents": 0, "discount_cents": 0, "visits": 0, "points": 0}
        visits = balance["visits"]
        if not seen.baskets <= visits <= history.baskets:
            raise WrongAnswer(f"it has {visits} visits after {seen.baskets} were answered")
        sums = history.sums[visits]
        rewards, rest = divmod(balance["points"] - sums.points, POINTS_PER_REDEMPTION)
        if rest or sums != Sums(balance["spend_cents"], balance["discount_cents"], sums.points):
            raise WrongAnswer(f"{visits} baskets make {sums}, and it is {balance}")
        return visits, _with_rewards(history, rewards, seen.redemptions, visits)

    def _departments(
        self, household: int, answer: Mapping[str, int] | None, *, is_kept: bool
    ) -> tuple[int, int | None]:
        history, seen = self._histories[household], self._seen[household]
        at, spend = seen.spend_at, dict(seen.spend)
        while at < seen.baskets or spend != (answer or {}):
            if at == history.baskets:
                raise WrongAnswer(f"no number of baskets from {seen.baskets} on makes {answer}")
            for department, cents in self._histories.spend(household, at).items():
                spend[department] = spend.get(department, 0) + cents
            at += 1
        if is_kept:
            seen.spend_at, seen.spend = at, spend
        return at, None

    def _redemptions(self, household: int, answer: Sequence[Mapping[str, Any]] | None) -> tuple[int, int]:
        history, seen = self._histories[household], self._seen[household]
        found = [Judgement(**row) for row in answer or ()]
        if len(found) < seen.redemptions:
            raise WrongAnswer(f"it has {len(found)} redemptions after {seen.redemptions} were answered")
        if sorted(found) != sorted(history.judgements[: len(found)]):
            raise WrongAnswer(f"its first {len(found)} redemptions are not {found}")
        return (history.baskets_before[len(found) - 1] if found else 0), len(found)


def _with_rewards(history: History, rewards: int, redemptions_min: int, visits: int) -> int:
    """The least number of redemptions, but not fewer than these, of which so many were rewarded."""
    count = 0
    for number in range(len(history.judgements) + 1):
        if number:
            count += history.judgements[number - 1].is_honoured
        if number >= redemptions_min and count == rewards:
            if number and history.baskets_before[number - 1] > visits:
                raise WrongAnswer(f"redemption {number} is rewarded before its baskets: {visits} are there")
            return number
    raise WrongAnswer(f"{rewards} rewards after {redemptions_min} redemptions were never earned")
