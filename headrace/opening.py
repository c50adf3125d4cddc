"""What a run asks of the log before it begins, while the log may still be starting itself."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from headrace.clock import Clock, is_set_within
from headrace.errors import Unavailable
from headrace.settings import Settings

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0

Answer = TypeVar("Answer")


async def ask_patiently(
    ask: Callable[[], Awaitable[Answer]], stopping: asyncio.Event, settings: Settings, clock: Clock
) -> Answer:
    """What the log answers, asked again for half a minute. Raises: Unavailable, and other errors at once."""
    began, wait_s = clock.monotonic(), settings.reopen_backoff_s
    while True:
        try:
            return await ask()
        except Unavailable as error:
            if clock.monotonic() - began > PATIENCE_S or stopping.is_set():
                raise
            logger.warning("The log does not answer yet: %s", error)
            await is_set_within(stopping, wait_s, clock)
            wait_s = min(2 * wait_s, settings.reopen_backoff_max_s)
