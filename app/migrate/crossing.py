"""When one side has everything of the other: asked of the database and the log, until it is so."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from app.migrate.ledger import Ledger
from app.migrate.sides import APPLIER
from headrace.bridge.pin import Stretches, pinned
from headrace.bridge.session import Access, Engine
from headrace.log.port import Log

LOOK_AGAIN_S = 0.05
PATIENCE_S = 180.0

_LAST = "SELECT coalesce(max(id), 0) FROM headrace_outbox"
_LEFT = "SELECT count(*) FROM headrace_outbox WHERE id <= %s"


class Standstill(Exception):
    """One side has not come as far as it must."""


async def outbox_emptied(engine: Engine) -> None:
    """Return once everything is published that is in the outbox now. Raises: Standstill."""
    session = await engine.connect(Access.READ, purpose="migration")
    try:
        [(last,)] = await session.fetch(_LAST)

        async def is_so() -> bool:
            return await session.fetch(_LEFT, (last,)) == [(0,)]

        await until(is_so, "the relay has not published what was in the outbox")
    finally:
        await session.close()


async def applied(engine: Engine, log: Log, ledger: Ledger) -> None:
    """Return once the applier has written everything that is in the log now. Raises: Standstill."""
    ends, stretches = await ledger.ends(), Stretches(log)
    session = await engine.connect(Access.SNAPSHOT, purpose="migration")

    async def is_so() -> bool:
        try:
            position = await pinned(session, APPLIER, ledger.catalog.topic_ids)
        finally:
            await session.rollback()
        return await stretches.contains(position, ends)

    try:
        await until(is_so, "the applier has not written what is in the log")
    finally:
        await session.close()


async def until(is_so: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Return once this is so. Raises: Standstill."""
    deadline = time.monotonic() + PATIENCE_S
    while not await is_so():
        if time.monotonic() > deadline:
            raise Standstill(f"{otherwise} within {PATIENCE_S:.0f} s")
        await asyncio.sleep(LOOK_AGAIN_S)
