"""Ground truth: what every household's tables must hold, summed by pyarrow straight from the files.

Nothing of the events' way is used here, so that agreement means something.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from app.grocery import cents, parquet, till_days

POINTS_PER_REDEMPTION = 50


@dataclass(slots=True, kw_only=True)
class Household:
    """The true sums of one household."""

    spend_cents: int = 0
    discount_cents: int = 0
    visits: int = 0
    points: int = 0
    honoured: int = 0
    """Redemptions that count."""
    corrected: int = 0
    """Redemptions that do not."""
    departments: dict[str, int] = field(default_factory=dict)
    """Spend per department, in cents."""

    @property
    def redeemed(self) -> int:
        """All redemptions, whether they count or not."""
        return self.honoured + self.corrected


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The true sums of the year."""

    households: Mapping[int, Household]
    lines: int
    lines_unknown: int
    """Lines of products that the catalogue does not know."""

    @property
    def baskets(self) -> int:
        """How many baskets were bought."""
        return sum(household.visits for household in self.households.values())

    @property
    def honoured(self) -> int:
        """How many redemptions count."""
        return sum(household.honoured for household in self.households.values())

    @property
    def corrected(self) -> int:
        """How many do not."""
        return sum(household.corrected for household in self.households.values())


class Redeemed(NamedTuple):
    """One redemption as the files have it; no two of the year are the same."""

    household_id: int
    coupon_upc: int
    campaign_id: int
    day: date


class Part(NamedTuple):
    """A part of the year: the baskets and redemptions that a table stands for at a moment."""

    basket_ids: Collection[int]
    redemptions: Collection[Redeemed]

    @classmethod
    def before(cls, day: date) -> "Part":
        """What happened before a day of the tills' calendar."""
        lines = parquet("transactions", ["basket_id", "transaction_timestamp"])
        earlier = lines.filter(pc.less(till_days(lines["transaction_timestamp"]), pa.scalar(day)))
        redeemed = _redemptions()
        return cls(
            basket_ids=pc.unique(earlier["basket_id"]).to_pylist(),
            redemptions=[
                Redeemed(**row)
                for row in redeemed.filter(pc.less(redeemed["day"], pa.scalar(day))).to_pylist()
            ],
        )


def load_truth(part: Part | None = None) -> Truth:
    """Sum up the year, or a part of it; takes about a second."""
    lines, redeemed = _lines(), _redemptions()
    if part is not None:
        ids = pa.array(part.basket_ids, lines["basket_id"].type)
        lines = lines.filter(pc.is_in(lines["basket_id"], ids))
        rows = [each._asdict() for each in part.redemptions]
        redeemed = redeemed.join(
            pa.Table.from_pylist(rows, redeemed.schema), Redeemed._fields, join_type="left semi"
        )
    households = _sums(lines)
    unknown = _add_departments(lines, households)
    _add_redemptions(lines, redeemed, households)
    return Truth(households=households, lines=lines.num_rows, lines_unknown=unknown)


def _lines() -> pa.Table:
    raw = parquet("transactions")
    discounts = [cents(raw[name]) for name in ("retail_disc", "coupon_disc", "coupon_match_disc")]
    return pa.table(
        {
            "household_id": raw["household_id"],
            "basket_id": raw["basket_id"],
            "product_id": raw["product_id"],
            "day": till_days(raw["transaction_timestamp"]),
            "sales": cents(raw["sales_value"]),
            "discount": pc.add(pc.add(discounts[0], discounts[1]), discounts[2]),
            "coupon": discounts[1],
        }
    )


def _sums(lines: pa.Table) -> dict[int, Household]:
    baskets = lines.group_by(["household_id", "basket_id"]).aggregate([("sales", "sum"), ("discount", "sum")])
    baskets = baskets.append_column("points", pc.divide(baskets["sales_sum"], 100))  # integers: floor
    sums = baskets.group_by("household_id").aggregate(
        [("sales_sum", "sum"), ("discount_sum", "sum"), ("points", "sum"), ("basket_id", "count_distinct")]
    )
    return {
        row["household_id"]: Household(
            spend_cents=row["sales_sum_sum"],
            discount_cents=row["discount_sum_sum"],
            visits=row["basket_id_count_distinct"],
            points=row["points_sum"],
        )
        for row in sums.to_pylist()
    }


def _add_departments(lines: pa.Table, households: dict[int, Household]) -> int:
    products = parquet("products", ["product_id", "department"])
    sold = lines.group_by(["household_id", "product_id"]).aggregate([("sales", "sum"), ("sales", "count")])
    sold = sold.join(products, "product_id", join_type="left outer")
    unknown = pc.sum(pc.if_else(pc.is_null(sold["department"]), sold["sales_count"], 0)).as_py()
    department = pc.fill_null(sold["department"], "UNKNOWN")
    sold = sold.set_column(sold.schema.get_field_index("department"), "department", department)
    for row in sold.group_by(["household_id", "department"]).aggregate([("sales_sum", "sum")]).to_pylist():
        households[row["household_id"]].departments[row["department"]] = row["sales_sum_sum"]
    return int(unknown)


def _redemptions() -> pa.Table:
    raw = parquet("coupon_redemptions")
    return pa.table(
        {
            "household_id": raw["household_id"],
            "coupon_upc": raw["coupon_upc"],
            "campaign_id": raw["campaign_id"],
            "day": raw["redemption_date"].cast(pa.date32()),
        }
    )


def _add_redemptions(lines: pa.Table, redeemed: pa.Table, households: dict[int, Household]) -> None:
    """A redemption counts if a basket of its household has a coupon discount on its day."""
    redemptions = redeemed.select(["household_id", "day"])
    coupon_days = lines.filter(pc.greater(lines["coupon"], 0)).group_by(["household_id", "day"]).aggregate([])
    keys = ["household_id", "day"]
    for household in redemptions.join(coupon_days, keys, join_type="left semi")["household_id"].to_pylist():
        households[household].honoured += 1
        households[household].points += POINTS_PER_REDEMPTION
    for household in redemptions.join(coupon_days, keys, join_type="left anti")["household_id"].to_pylist():
        households[household].corrected += 1
