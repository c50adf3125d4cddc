"""The verdict: what the services answer over HTTP, against the truth from the files."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from app.client import Client
from app.replay import Addresses
from app.truth import Household, Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the verdict."""

    what: str
    expected: int
    found: int
    households_wrong: int
    """Households for which it is not exact."""

    @property
    def is_exact(self) -> bool:
        """Whether it is right in sum and for every single household."""
        return self.expected == self.found and not self.households_wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The comparison of every household."""

    households: int
    findings: tuple[Finding, ...]
    corrected: int
    """Redemptions that loyalty corrected."""

    @property
    def is_exact(self) -> bool:
        """Whether everything is exact."""
        return all(finding.is_exact for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The tables of the services, by household."""

    balances: Mapping[int, Any]
    departments: Mapping[int, Any]
    redemptions: Mapping[int, Any]
    coupons: Mapping[int, Any]

    @classmethod
    def read(cls, addresses: Addresses) -> "Answers":
        """Read every row of them over HTTP. Raises: NoAnswer.

        Once loyalty's tables contain all redemptions its corrections are in the log, so the latest that
        promotions can answer contains them.
        """
        with (
            closing(Client(addresses.loyalty)) as loyalty,
            closing(Client(addresses.promotions)) as promotions,
        ):
            return cls(
                balances=dict(loyalty.rows("/balances")),
                departments=dict(loyalty.rows("/departments")),
                redemptions=dict(loyalty.rows("/redemptions")),
                coupons=dict(promotions.rows("/coupons", is_latest=True)),
            )


def compare(truth: Truth, answers: Answers) -> Verdict:
    """Compare every household that the truth or a table knows."""
    households = truth.households.keys() | answers.balances.keys() | answers.departments.keys()
    households |= answers.redemptions.keys() | answers.coupons.keys()

    def finding(
        what: str, expected: Callable[[Household], int], found: Callable[[int], int | None]
    ) -> Finding:
        pairs = [(expected(truth.households.get(key, Household())), found(key)) for key in households]
        return Finding(
            what=what,
            expected=sum(pair[0] for pair in pairs),
            found=sum(pair[1] or 0 for pair in pairs),
            households_wrong=sum(pair[0] != pair[1] for pair in pairs),
        )

    def balance(field: str) -> Callable[[int], int | None]:
        return lambda key: answers.balances.get(key, {}).get(field)

    def judged(is_honoured: bool) -> Callable[[int], int]:
        return lambda key: sum(r["is_honoured"] is is_honoured for r in answers.redemptions.get(key, ()))

    def booked(field: str) -> Callable[[int], int]:
        return lambda key: answers.coupons.get(key, {}).get(field, 0)

    findings = (
        finding("spend, cents", lambda household: household.spend_cents, balance("spend_cents")),
        finding("discounts, cents", lambda household: household.discount_cents, balance("discount_cents")),
        finding("visits", lambda household: household.visits, balance("visits")),
        finding("points", lambda household: household.points, balance("points")),
        _department_finding(truth, answers, households),
        finding("redemptions honoured", lambda household: household.honoured, judged(True)),
        finding("redemptions corrected", lambda household: household.corrected, judged(False)),
        finding("in coupon books", lambda household: household.redeemed, booked("redeemed")),
        finding("corrected in them", lambda household: household.corrected, booked("corrected")),
    )
    return Verdict(
        households=len(truth.households),
        findings=findings,
        corrected=sum(not row["is_honoured"] for rows in answers.redemptions.values() for row in rows),
    )


def _department_finding(truth: Truth, answers: Answers, households: set[int]) -> Finding:
    expected = {key: truth.households.get(key, Household()).departments for key in households}
    found = {key: answers.departments.get(key, {}) for key in households}
    return Finding(
        what="spend per department",
        expected=sum(sum(spend.values()) for spend in expected.values()),
        found=sum(sum(spend.values()) for spend in found.values()),
        households_wrong=sum(expected[key] != found[key] for key in households),
    )
