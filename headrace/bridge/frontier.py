"""Which ids of an outbox are still to be looked for: all behind the highest that was seen, and the gaps.

A gap is an id that was given to a row that is not visible: its transaction goes on, or was rolled back. It is
looked for until every transaction that may own it has ended. So nothing that commits late is ever skipped,
and rows that were deleted long ago are not looked at again and again, however long a transaction lasts.

Whoever may own a gap had its transaction id before the row its id, so before the gap was noticed: it is
among those that run then and are older than a transaction id that is given out afterwards. Gaps whose owners
all go on are not looked at. When one has ended, whatever was found beside them is dropped, and they come
first: rows behind them may follow, by key, one of theirs.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from headrace.bridge.outboxtable import Range, Ranges, Snapshot

ID_MAX = 2**63 - 1
COVERED_RANGES_MAX = 100
COVERED_IDS_MAX = 5_000
"""Gaps up to so many are looked at each time anyway, without a thought of their owners."""
DUE_RANGES_MAX = 1_000
"""How many gaps are looked at in one statement once an owner has ended."""
_GROUPS_MAX = 32

_Owners = frozenset[int]


class Look(NamedTuple):
    """Where to look, in one statement."""

    ranges: Ranges
    covered: frozenset[_Owners]
    """The groups of gaps that are among them."""
    is_front: bool
    """Whether everything behind the highest is, too."""


class Frontier:
    """How far the rows were seen."""

    def __init__(self) -> None:
        self._highest = 0
        self._fresh: list[Range] = []
        """Gaps of which it is not known yet who may own them."""
        self._groups: dict[_Owners, list[Range]] = {}
        """Gaps by who may own them."""
        self._due: list[Range] = []
        """Gaps, in order, one of whose owners may have ended since they were looked at."""
        self._due_owners: _Owners = frozenset()

    @property
    def needs_bound(self) -> bool:
        """Whether a transaction id is wanted that is younger than all owners of gaps."""
        return bool(self._fresh)

    @property
    def gaps(self) -> int:
        """How many gaps are looked for."""
        return len(self._fresh) + len(self._due) + sum(map(len, self._groups.values()))

    def look(self) -> Look:
        """Where to look next."""
        if self._due:
            return Look(self._due[:DUE_RANGES_MAX], frozenset(), is_front=False)
        found, ids, covered = list(self._fresh), 0, set[_Owners]()
        for owners in reversed(self._groups):
            gaps = self._groups[owners]
            if len(found) + len(gaps) > COVERED_RANGES_MAX:
                continue
            ids += sum(high - low + 1 for low, high in gaps)
            if ids > COVERED_IDS_MAX:
                break
            covered.add(owners)
            found += gaps
        return Look([*sorted(found), (self._highest + 1, ID_MAX)], frozenset(covered), is_front=True)

    def passed(self, ids: Sequence[int]) -> None:
        """Take in rows of a database with one writer at a time: nothing comes late before them."""
        self._highest = max([self._highest, *ids[-1:]])

    def saw(
        self, look: Look, ids: Sequence[int], snapshot: Snapshot, bound: int | None, *, is_all: bool
    ) -> bool:
        """Take in the rows that one snapshot showed there; false: drop them, and look again.

        `bound`: an id that a transaction was given after the last look. `is_all`: there were no other rows;
        without that nothing is known of what is behind the last one.
        """
        late = [o for o in self._groups if o not in look.covered and not snapshot.runs_all(o)]
        if late:
            self._make_due(late)
            return False
        end = ID_MAX if is_all else ids[-1] if ids else 0
        if look.is_front:
            self._saw_front(look, ids, snapshot, bound, end)
        else:
            looked, ahead = _without(look.ranges, ids, end)
            self._due[: len(look.ranges)] = ahead
            self._put(snapshot.running_of(self._due_owners), looked)
            if not self._due:
                self._due_owners = frozenset()
        return True

    def _saw_front(
        self, look: Look, ids: Sequence[int], snapshot: Snapshot, bound: int | None, end: int
    ) -> None:
        for owners, gaps in [(owners, self._groups.pop(owners)) for owners in look.covered]:
            looked, ahead = _without(gaps, ids, end)
            self._put(owners, ahead)
            self._put(snapshot.running_of(owners), looked)
        looked, ahead = _without(self._fresh, ids, end)
        if bound is None:
            ahead += looked
        else:
            self._put(snapshot.running_before(bound), looked)
        new = ids[bisect_right(ids, self._highest) :]
        if new:
            ahead += _without([(self._highest + 1, new[-1])], new, ID_MAX)[0]
            self._highest = new[-1]
        self._fresh = ahead

    def _make_due(self, late: Iterable[_Owners]) -> None:
        for owners in late:
            self._due += self._groups.pop(owners)
            self._due_owners |= owners
        self._due.sort()

    def _put(self, owners: _Owners, gaps: list[Range]) -> None:
        """Look for these until all owners have ended; without one they were rolled back."""
        if not owners or not gaps:
            return
        self._groups.setdefault(owners, []).extend(gaps)
        if len(self._groups) > _GROUPS_MAX:
            one, other = list(self._groups)[:2]
            both = self._groups.pop(one) + self._groups.pop(other)
            self._groups.setdefault(one | other, []).extend(both)


def _without(gaps: Iterable[Range], ids: Sequence[int], end: int) -> tuple[list[Range], list[Range]]:
    """What is left of gaps when these ids are found: up to `end`, and behind it."""
    looked: list[Range] = []
    ahead: list[Range] = []
    for low, high in gaps:
        if high > end:
            ahead.append((max(low, end + 1), high))
        stop = min(high, end)
        for id_ in ids[bisect_left(ids, low) : bisect_right(ids, stop)]:
            if low < id_:
                looked.append((low, id_ - 1))
            low = id_ + 1
        if low <= stop:
            looked.append((low, stop))
    return looked, ahead
