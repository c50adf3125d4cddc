"""Turns for others: long work on the loop that never holds it for more than about 2 ms."""

import asyncio
import time

from headrace.flow.stream import SLICE_S


class Turns:
    """Asked between two steps of long work; every 2 ms the loop's other tasks get their turn."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def is_due(self) -> bool:
        """Whether the loop was held for long enough."""
        return time.perf_counter() - self._began > SLICE_S

    async def give(self) -> None:
        """Let others run."""
        await asyncio.sleep(0)
        self._began = time.perf_counter()
