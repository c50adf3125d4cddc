"""Loyalty while it leaves the shared database: its balances are compared with those of the old one.

The service is that of `app.loyalty`. Once nobody reads the old tables, that one runs alone again.
"""

from app.loyalty import app
from headrace import bridge
from tables.loyalty import Balance, balances

APPLIER = "database/loyalty-tables"

shadow = bridge.Shadow(
    app,
    balances,
    query="SELECT spend_cents, discount_cents, visits, points FROM balances WHERE household_id = %s",
    row=lambda row: Balance(*row),
    applier=APPLIER,
    sample=0.1,
)
compared = bridge.Compared(app, balances, sql_table="balances", key="household_id", applier=APPLIER)
