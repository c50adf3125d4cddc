"""The positions of a worker's tasks, left now and then where lag tools look."""

import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

from headrace.clock import Clock
from headrace.errors import LogError
from headrace.events.position import Position
from headrace.log.port import Log
from headrace.tables.view import PartitionView, ViewState

logger = logging.getLogger(__name__)

_INTERVAL_S = 5.0


async def record_lag(
    log: Log, app: str, views: Callable[[], Sequence[PartitionView]], clock: Clock
) -> NoReturn:
    """Leave the positions of what is served, every few seconds, for ever."""
    while True:
        await clock.sleep(_INTERVAL_S)
        merged = Position()
        for view in views():
            if view.state is ViewState.SERVING:
                merged = merged.merge(view.position)
        if merged:
            try:
                await log.record_lag(app, merged)
            except LogError as error:
                # The marks are for lag tools: a log that does not take them stops no work.
                logger.debug("The positions are not left for lag tools: %s", error)
