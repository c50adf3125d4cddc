"""Loyalty's tables in the shared database, as the applier writes them."""

from headrace import bridge

balances = bridge.SqlTable(
    "balances", key="household_id", sums=("spend_cents", "discount_cents", "visits", "points")
)
department_spend = bridge.SqlTable("department_spend", key=("household_id", "department"), sums=("cents",))
coupon_days = bridge.SqlTable("coupon_days", key=("household_id", "day"))
judgements = bridge.SqlTable("judgements", key=("household_id", "coupon_upc", "campaign_id", "day"))
