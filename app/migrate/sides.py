"""Loyalty's three tables as each side has them, all households at once, and the position they stand for."""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple

import msgspec

from app.client import Client, NoAnswer
from app.database import app, applier
from headrace.bridge.session import Session
from headrace.events.position import Catalog, Position
from headrace.events.token import Token

APPLIER = (app.declarations.app_id, applier.group)
ROWS_MAX = 10_000
"""Households that are read at once."""
WAIT_S = 10.0

_BALANCES = "SELECT household_id, spend_cents, discount_cents, visits, points FROM balances"
_SPEND = "SELECT household_id, department, cents FROM department_spend"
_JUDGEMENTS = "SELECT household_id, coupon_upc, campaign_id, day, is_honoured FROM judgements"

Rows = Mapping[int, Any]


class Tables(NamedTuple):
    """Rows by household."""

    balances: Rows
    departments: Rows
    redemptions: Rows


async def read_database(session: Session) -> Tables:
    """What the transaction of a session sees."""
    names = ("spend_cents", "discount_cents", "visits", "points")
    balances = {key: dict(zip(names, row, strict=True)) for key, *row in await session.fetch(_BALANCES)}
    departments: dict[int, dict[str, int]] = defaultdict(dict)
    for household, department, cents in await session.fetch(_SPEND):
        departments[household][department] = cents
    redemptions: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for household, coupon, campaign, day, is_honoured in await session.fetch(_JUDGEMENTS):
        row = {"coupon_upc": coupon, "campaign_id": campaign, "day": day, "is_honoured": bool(is_honoured)}
        redemptions[household].append(row)
    return Tables(balances, departments, redemptions)


def read_own(address: str, seen: Token, catalog: Catalog) -> tuple[Tables, tuple[Position, ...]]:
    """The rows over HTTP, containing what was seen; each table at a position of its own. Raises: NoAnswer."""
    with closing(Client(address)) as client:
        found = [_scan(client, path, seen, catalog) for path in ("/balances", "/departments", "/redemptions")]
    return Tables(*(rows for rows, _ in found)), tuple(position for _, position in found)


def _scan(client: Client, path: str, seen: Token, catalog: Catalog) -> tuple[Rows, Position]:
    answer = client.get(f"{path}?limit={ROWS_MAX}", seen=seen, wait_s=WAIT_S)
    if answer.status != 200 or answer.position is None:
        raise NoAnswer(f"GET {path} at {client.address}: {answer.status} {answer.body[:200]!r}")
    page = msgspec.json.decode(answer.body)
    if page["cursor"]:
        raise NoAnswer(f"{path} at {client.address} has more than {ROWS_MAX} rows")
    return {row["key"]: row["value"] for row in page["rows"]}, answer.position.located(catalog)
