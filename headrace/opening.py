"""The log, opened while it may still be starting itself."""

import asyncio
import logging

from headrace.clock import Clock, is_set_within
from headrace.errors import Unavailable
from headrace.log.port import Log
from headrace.settings import Settings

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0


async def open_patiently(log: Log, stopping: asyncio.Event, settings: Settings, clock: Clock) -> None:
    """Open the log, trying again for half a minute. Raises: Unavailable, and other errors at once."""
    began, wait_s = clock.monotonic(), settings.reopen_backoff_s
    while True:
        try:
            await log.open()
            return
        except Unavailable as error:
            if clock.monotonic() - began > PATIENCE_S or stopping.is_set():
                raise
            logger.warning("The log does not answer yet: %s", error)
            await is_set_within(stopping, wait_s, clock)
            wait_s = min(2 * wait_s, settings.reopen_backoff_max_s)
