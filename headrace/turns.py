"""Turns for others: long work holds the loop for about 1 ms at a time, however many are at it."""

import asyncio
import time
from types import TracebackType
from typing import Self

TURN_S = 0.001
"""In this time the loop comes round once: those that are at work share it."""
_SHARE_S_MIN = 0.00025
"""Giving a turn and getting it back costs about a tenth of that."""

_at_work: "set[Turns]" = set()


class Turns:
    """Asked between two steps of long work: when its share of 1 ms is used up, others get their turn.

    As a context, or between `begin` and `end`, it counts among those at work, whose shares get smaller.
    """

    __slots__ = ("until",)

    def __init__(self) -> None:
        self._renew()

    @property
    def is_due(self) -> bool:
        """Whether the loop was held for long enough."""
        return time.perf_counter() >= self.until

    async def give(self) -> None:
        """Let others run."""
        await asyncio.sleep(0)
        self._renew()

    def begin(self) -> None:
        """Long work begins here."""
        _at_work.add(self)
        self._renew()

    def end(self) -> None:
        """It has ended; a second call does nothing."""
        _at_work.discard(self)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _renew(self) -> None:
        self.until = time.perf_counter() + share_s()
        """When the loop is to be given away, by `perf_counter`."""


def share_s() -> float:
    """How long one of those that are at work may hold the loop."""
    return max(_SHARE_S_MIN, TURN_S / max(1, len(_at_work)))
