"""What checkout and promotions write into loyalty's tables, because they can: it is all one database.

Rows are written in the order of their keys, table by table, so that two transactions never wait for
each other in a circle.
"""

from collections import defaultdict
from collections.abc import Sequence

from app.catalogue import UNKNOWN, departments
from headrace.bridge.session import Session
from schemas.checkout import BasketPurchased
from schemas.promotions import CouponRedeemed

CENTS_PER_POINT = 100
POINTS_PER_REDEMPTION = 50

ADD_BALANCE = """INSERT INTO balances VALUES (%s, %s, %s, %s, %s) ON CONFLICT (household_id) DO UPDATE SET
    spend_cents = balances.spend_cents + excluded.spend_cents,
    discount_cents = balances.discount_cents + excluded.discount_cents,
    visits = balances.visits + excluded.visits, points = balances.points + excluded.points"""
ADD_SPEND = """INSERT INTO department_spend VALUES (%s, %s, %s)
    ON CONFLICT (household_id, department) DO UPDATE SET cents = department_spend.cents + excluded.cents"""
ADD_COUPON_DAY = "INSERT INTO coupon_days VALUES (%s, %s) ON CONFLICT DO NOTHING"
ADD_JUDGEMENT = "INSERT INTO judgements VALUES (%s, %s, %s, %s, %s)"
HAS_COUPON_DAY = "SELECT 1 FROM coupon_days WHERE household_id = %s AND day = %s"


async def add_baskets(session: Session, baskets: Sequence[BasketPurchased]) -> None:
    """Add baskets to the sums of their households."""
    department_of = departments()
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    spend: dict[tuple[int, str], int] = defaultdict(int)
    days: set[tuple[int, str]] = set()
    for basket in baskets:
        household, cents = basket.household_id, basket.sales_cents
        added = (cents, basket.discount_cents, 1, cents // CENTS_PER_POINT)
        sums[household] = [before + more for before, more in zip(sums[household], added, strict=True)]
        for line in basket.lines:
            spend[household, department_of.get(line.product_id, UNKNOWN)] += line.sales_cents
        if basket.has_coupon_discount:
            days.add((household, basket.day.isoformat()))
    await session.execute_many(ADD_BALANCE, [(key, *sums[key]) for key in sorted(sums)])
    await session.execute_many(ADD_SPEND, [(*key, spend[key]) for key in sorted(spend)])
    if days:
        await session.execute_many(ADD_COUPON_DAY, sorted(days))


async def judge(session: Session, redeemed: CouponRedeemed) -> None:
    """Reward a redemption that a basket of its day bears out, and note of each whether one does."""
    household, day = redeemed.household_id, redeemed.day.isoformat()
    is_honoured = bool(await session.fetch(HAS_COUPON_DAY, (household, day)))
    await session.execute(
        ADD_JUDGEMENT, (household, redeemed.coupon_upc, redeemed.campaign_id, day, is_honoured)
    )
    if is_honoured:
        await session.execute(ADD_BALANCE, (household, 0, 0, 0, POINTS_PER_REDEMPTION))
