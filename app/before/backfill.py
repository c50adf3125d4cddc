"""The past, published: what the old services wrote before they left events goes through the same outbox.

It may run while the services do, and may be ended and begun again: each row is published in the transaction
that marks it so. All of it is marked as written to loyalty's tables, for it was.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from operator import itemgetter

from app.database import UPDATED, basket_outbox, promotions_outbox
from headrace.bridge.session import Engine, Session, SqlRow
from schemas.checkout import BasketLine, BasketPurchased
from schemas.promotions import CampaignAnnounced, CouponRedeemed

_ROWS = 1_000
_Some = Callable[[Session], Awaitable[int]]

_BASKETS = """SELECT basket_id, household_id, store_id, epoch_s, day FROM baskets
    WHERE NOT is_published ORDER BY basket_id LIMIT %s"""
_LINES = """SELECT basket_id, product_id, quantity, sales_cents, retail_discount_cents,
        coupon_discount_cents, coupon_match_cents
    FROM basket_lines WHERE basket_id BETWEEN %s AND %s ORDER BY basket_id, line"""
_BASKET_DONE = "UPDATE baskets SET is_published = true WHERE basket_id = %s"
_REDEMPTIONS = """SELECT household_id, coupon_upc, campaign_id, day FROM redemptions
    WHERE NOT is_published ORDER BY household_id LIMIT %s"""
_REDEMPTION_DONE = """UPDATE redemptions SET is_published = true
    WHERE household_id = %s AND coupon_upc = %s AND campaign_id = %s AND day = %s"""
_CAMPAIGNS = """SELECT campaign_id, kind, first_day, last_day FROM campaigns
    WHERE NOT is_published ORDER BY campaign_id LIMIT %s"""
_CAMPAIGN_DONE = "UPDATE campaigns SET is_published = true WHERE campaign_id = %s"


async def publish_baskets(engine: Engine) -> int:
    """Publish every basket that was not; how many there were."""
    return await _all(engine, _some_baskets)


async def publish_redemptions(engine: Engine) -> int:
    """Publish every campaign and redemption that was not; how many there were.

    Their baskets have to be published before: what reads both is handed them in this order.
    """
    return await _all(engine, _some_campaigns) + await _all(engine, _some_redemptions)


async def _all(engine: Engine, some: _Some) -> int:
    count = 0
    session = await engine.connect(purpose="backfill")
    try:
        while done := await some(session):
            await session.commit()
            count += done
        await session.commit()
    finally:
        await session.close()
    return count


async def _some_baskets(session: Session) -> int:
    rows = await session.fetch(_BASKETS, (_ROWS,))
    if not rows:
        return 0
    lines: dict[int, list[BasketLine]] = defaultdict(list)
    for basket_id, *line in await session.fetch(_LINES, (rows[0][0], rows[-1][0])):
        lines[basket_id].append(BasketLine(*line))
    events = sorted(((row[1], _basket(row, lines[row[0]])) for row in rows), key=itemgetter(0))
    await basket_outbox.asend_many(session, events, headers=UPDATED)
    await session.execute_many(_BASKET_DONE, [(row[0],) for row in rows])
    return len(rows)


def _basket(row: SqlRow, lines: Sequence[BasketLine]) -> BasketPurchased:
    basket_id, household_id, store_id, epoch_s, day = row
    return BasketPurchased(
        household_id=household_id,
        basket_id=basket_id,
        store_id=store_id,
        at=datetime.fromtimestamp(epoch_s, UTC),
        day=date.fromisoformat(day),
        lines=tuple(lines),
    )


async def _some_redemptions(session: Session) -> int:
    rows = await session.fetch(_REDEMPTIONS, (_ROWS,))
    events = [
        (household, CouponRedeemed(household, coupon, campaign, date.fromisoformat(day)))
        for household, coupon, campaign, day in rows
    ]
    if rows:
        await promotions_outbox.asend_many(session, events, headers=UPDATED)
        await session.execute_many(_REDEMPTION_DONE, rows)
    return len(rows)


async def _some_campaigns(session: Session) -> int:
    rows = await session.fetch(_CAMPAIGNS, (_ROWS,))
    events = [(row[0], CampaignAnnounced(row[0], row[1], *map(date.fromisoformat, row[2:]))) for row in rows]
    if rows:
        await promotions_outbox.asend_many(session, events)
        await session.execute_many(_CAMPAIGN_DONE, [(row[0],) for row in rows])
    return len(rows)
