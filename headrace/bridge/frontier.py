"""Which ids of an outbox are still to be looked for: all behind the highest that was seen, and the gaps.

A gap is an id that was given to a row that is not visible: its transaction goes on, or was rolled back. It is
looked for until every transaction that may own it has ended. So nothing that commits late is ever skipped,
and rows that were deleted long ago are not looked at again and again, however long a transaction lasts.
"""

from collections.abc import Sequence
from typing import NamedTuple

from headrace.bridge.outboxtable import Horizon, Ranges

ID_MAX = 2**63 - 1


class _Gap(NamedTuple):
    low: int
    high: int
    xmax: int | None
    """Its owner's transaction is older than this; None: not known yet."""


class Frontier:
    """How far the rows were seen."""

    def __init__(self) -> None:
        self._highest = 0
        self._gaps: list[_Gap] = []

    @property
    def ranges(self) -> Ranges:
        """The ids to look for."""
        return [*((gap.low, gap.high) for gap in self._gaps), (self._highest + 1, ID_MAX)]

    def saw(self, ids: Sequence[int], horizon: Horizon, *, is_all: bool) -> None:
        """Take in the rows that were found in `ranges`; `is_all`: there were no others.

        The horizon is that of a snapshot before these were read: what had ended by then and was not found
        now will never be. Without all of them nothing is known of the ids behind the last one.
        """
        end = ID_MAX if is_all else (ids[-1] if ids else 0)
        gaps: list[_Gap] = []
        for gap in self._gaps:
            xmax = gap.xmax
            if xmax is not None and horizon.xmin >= xmax and gap.high <= end:
                continue
            gaps += self._without(gap._replace(xmax=horizon.xmax if xmax is None else xmax), ids)
        highest = max(self._highest, ids[-1] if ids else 0)
        new = [id_ for id_ in ids if id_ > self._highest]
        if new:
            # Their owners had begun by the time these were visible: the next snapshot bounds them.
            gaps += self._without(_Gap(self._highest + 1, new[-1], None), new)
        self._gaps, self._highest = gaps, highest

    @staticmethod
    def _without(gap: _Gap, ids: Sequence[int]) -> list[_Gap]:
        left: list[_Gap] = []
        low = gap.low
        for id_ in ids:
            if gap.low <= id_ <= gap.high:
                if low < id_:
                    left.append(_Gap(low, id_ - 1, gap.xmax))
                low = id_ + 1
        if low <= gap.high:
            left.append(_Gap(low, gap.high, gap.xmax))
        return left
