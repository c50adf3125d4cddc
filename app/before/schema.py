"""The one database of the chain: tables of three services side by side, and each service writes them all."""

from headrace.bridge.outboxtable import ensure_outbox
from headrace.bridge.positions import ensure_tables
from headrace.bridge.session import Engine

LOYALTY_TABLES = ("balances", "department_spend", "coupon_days", "judgements")
"""What belongs to loyalty, whoever writes it."""

_STATEMENTS = (
    # the migration's own
    "CREATE TABLE stage (name text NOT NULL)",
    "INSERT INTO stage VALUES ('shared')",
    "CREATE TABLE requests (key text PRIMARY KEY, accepted bigint NOT NULL)",
    # checkout's
    """CREATE TABLE baskets (
        basket_id bigint PRIMARY KEY, household_id bigint NOT NULL, store_id bigint NOT NULL,
        epoch_s bigint NOT NULL, day text NOT NULL, is_published boolean NOT NULL)""",
    "CREATE INDEX baskets_of_household ON baskets (household_id, epoch_s)",
    "CREATE INDEX baskets_to_publish ON baskets (basket_id) WHERE NOT is_published",
    """CREATE TABLE basket_lines (
        basket_id bigint NOT NULL REFERENCES baskets, line bigint NOT NULL,
        product_id bigint NOT NULL, quantity bigint NOT NULL, sales_cents bigint NOT NULL,
        retail_discount_cents bigint NOT NULL, coupon_discount_cents bigint NOT NULL,
        coupon_match_cents bigint NOT NULL, PRIMARY KEY (basket_id, line))""",
    # promotions'
    """CREATE TABLE campaigns (
        campaign_id bigint PRIMARY KEY, kind text NOT NULL, first_day text NOT NULL, last_day text NOT NULL,
        is_published boolean NOT NULL)""",
    """CREATE TABLE redemptions (
        household_id bigint NOT NULL, coupon_upc bigint NOT NULL, campaign_id bigint NOT NULL,
        day text NOT NULL, is_published boolean NOT NULL,
        PRIMARY KEY (household_id, coupon_upc, campaign_id, day))""",
    # loyalty's
    """CREATE TABLE balances (
        household_id bigint PRIMARY KEY, spend_cents bigint NOT NULL, discount_cents bigint NOT NULL,
        visits bigint NOT NULL, points bigint NOT NULL)""",
    """CREATE TABLE department_spend (
        household_id bigint NOT NULL, department text NOT NULL, cents bigint NOT NULL,
        PRIMARY KEY (household_id, department))""",
    """CREATE TABLE coupon_days (
        household_id bigint NOT NULL, day text NOT NULL, PRIMARY KEY (household_id, day))""",
    """CREATE TABLE judgements (
        household_id bigint NOT NULL, coupon_upc bigint NOT NULL, campaign_id bigint NOT NULL,
        day text NOT NULL, is_honoured boolean NOT NULL,
        PRIMARY KEY (household_id, coupon_upc, campaign_id, day))""",
)


async def create(engine: Engine) -> None:
    """Make the tables in an empty database."""
    session = await engine.connect(purpose="schema")
    try:
        for statement in _STATEMENTS:
            await session.execute(statement)
        await session.commit()
        await ensure_outbox(engine, session)
        await ensure_tables(engine, session)
    finally:
        await session.close()
