"""The old service loyalty: it answers from tables that the others write, too."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.before.connections import Connections
from app.before.service import application
from app.before.standing import COLUMNS, FROM, Standing, cluster_of, parameters, partition_of
from headrace.bridge.session import SqlRow
from headrace.events.token import Token
from headrace.http.consistency import Asked, asking_headers, brought_by
from headrace.settings import Settings

POSITION = "Headrace-Position"
LOOK_AGAIN_S = 0.02
"""An applier that commits wakes nobody: a read that waits for it looks again."""

_BALANCE = f"""SELECT {COLUMNS}, b.household_id, b.spend_cents, b.discount_cents, b.visits, b.points
    FROM {FROM} LEFT JOIN balances b ON b.household_id = %s"""
_SPEND = f"""SELECT {COLUMNS}, d.department, d.cents
    FROM {FROM} LEFT JOIN department_spend d ON d.household_id = %s"""
_JUDGEMENTS = f"""SELECT {COLUMNS}, j.coupon_upc, j.campaign_id, j.day, j.is_honoured
    FROM {FROM} LEFT JOIN judgements j ON j.household_id = %s"""


def build(connections: Connections, settings: Settings | None = None) -> Starlette:
    """The service on these connections."""
    tables = Tables(connections, settings or Settings())
    return application(
        connections,
        [
            Route("/balances/{household:int}", tables.answering(_BALANCE, _balance)),
            Route("/departments/{household:int}", tables.answering(_SPEND, _departments)),
            Route("/redemptions/{household:int}", tables.answering(_JUDGEMENTS, _redemptions)),
        ],
    )


class Tables:
    """Answers from loyalty's tables, with the position of each row where there is one."""

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._settings = settings
        self._cluster_id = ""

    def answering(
        self, query: str, made_of: Callable[[Sequence[SqlRow]], Any]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A route that answers a query for one household; of no rows nothing is made."""

        async def answer(request: Request) -> Response:
            household = request.path_params["household"]
            asked = brought_by(asking_headers(request.headers.raw), self._settings)
            if not isinstance(asked, Asked):
                return Response(asked.body, asked.status, media_type="application/problem+json")
            found = await self._read(query, household, asked)
            if found is None:
                headers = {"Retry-After": "1"}
                return JSONResponse({"error": "NotReached"}, status_code=503, headers=headers)
            rows, token = found
            headers = {} if token is None else {POSITION: token.text()}
            if not rows:
                return JSONResponse({"error": "NotFound"}, status_code=404, headers=headers)
            return JSONResponse(made_of(rows), headers=headers)

        return answer

    async def _read(
        self, query: str, household: int, asked: Asked
    ) -> tuple[Sequence[SqlRow], Token | None] | None:
        """The rows and what they stand for, once they contain what is asked for; None: not in time."""
        deadline = time.monotonic() + asked.wait_s
        while True:
            async with self._connections.reading() as session:
                found = await session.fetch(query, (*parameters(household), household))
            standing = Standing.of(partition_of(household), found)
            if standing.offsets and not self._cluster_id:
                self._cluster_id = await cluster_of(self._settings)
            if asked.demanded is None or standing.contains(asked.demanded, self._cluster_id):
                # With several positions each row is there once for each of them.
                rows = dict.fromkeys(row[3:] for row in found if row[3] is not None)
                token = standing.token(self._cluster_id) if standing.offsets else None
                return list(rows), token
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(LOOK_AGAIN_S)


def _balance(rows: Sequence[SqlRow]) -> Any:
    return dict(zip(("spend_cents", "discount_cents", "visits", "points"), rows[0][1:], strict=True))


def _departments(rows: Sequence[SqlRow]) -> Any:
    return dict(rows)


def _redemptions(rows: Sequence[SqlRow]) -> Any:
    names = ("coupon_upc", "campaign_id", "day", "is_honoured")
    return [{**dict(zip(names, row, strict=True)), "is_honoured": bool(row[3])} for row in rows]
