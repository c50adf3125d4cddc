"""Whichever way transactions interleave: every row is found once, and the order of commits is kept by key."""

from random import Random

import pytest

from headrace.bridge.frontier import Frontier
from headrace.bridge.outboxtable import Horizon

KEYS = 3


class Table:
    """An outbox in a database with snapshots, as PostgreSQL has them: in one turn one thing happens."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.next_id = 1
        self.next_xid = 10
        self.open: dict[int, list[tuple[int, int]]] = {}
        """By transaction: ids and keys of its rows, which nobody else sees."""
        self.visible: dict[int, int] = {}
        self.locked: dict[int, int] = {}
        """Key to the transaction that holds it."""
        self.committed: dict[int, list[int]] = {key: [] for key in range(KEYS)}
        """By key the ids in the order of their commits."""

    def happen(self) -> None:
        """A transaction begins, leaves a row, commits or rolls back."""
        choice = self.rng.random()
        if choice < 0.3 or not self.open:
            self.open[self.next_xid] = []
            self.next_xid += 1
            return
        xid = self.rng.choice(list(self.open))
        if choice < 0.7:
            key = self.rng.randrange(KEYS)
            if self.locked.setdefault(key, xid) == xid:
                self.open[xid].append((self.next_id, key))
                self.next_id += 1
        else:
            self._end(xid, is_committed=choice < 0.92)

    def _end(self, xid: int, *, is_committed: bool) -> None:
        for id_, key in self.open.pop(xid):
            if is_committed:
                self.visible[id_] = key
                self.committed[key].append(id_)
        self.locked = {key: owner for key, owner in self.locked.items() if owner != xid}

    def horizon(self) -> Horizon:
        return Horizon(min(self.open, default=self.next_xid), self.next_xid)

    def end_all(self) -> None:
        for xid in list(self.open):
            self._end(xid, is_committed=True)


def poll(table: Table, frontier: Frontier, published: list[int], between: int) -> bool:
    """One look of the relay; things happen between its two snapshots."""
    horizon, ranges = table.horizon(), frontier.ranges
    for _ in range(between):
        table.happen()
    limit = table.rng.randint(1, 6)
    ids = sorted(id_ for id_ in table.visible if any(low <= id_ <= high for low, high in ranges))[:limit]
    frontier.saw(ids, horizon, is_all=not ids)
    for id_ in ids:
        published.append(id_)
    return bool(ids)


def lived(seed: int, frontier: Frontier) -> tuple[Table, list[int], dict[int, int]]:
    rng = Random(seed)
    table, published = Table(rng), list[int]()
    keys: dict[int, int] = {}
    for _ in range(rng.randint(20, 300)):
        for _ in range(rng.randint(0, 4)):
            table.happen()
        poll(table, frontier, published, rng.randint(0, 3))
        keys |= table.visible
        for id_ in published:
            table.visible.pop(id_, None)
    table.end_all()
    while poll(table, frontier, published, 0):
        keys |= table.visible
        for id_ in published:
            table.visible.pop(id_, None)
    keys |= table.visible
    return table, published, keys


@pytest.mark.parametrize("seed", range(400))
def test_nothing_is_skipped_nothing_comes_twice_and_keys_keep_their_order(seed: int) -> None:
    table, published, _ = lived(seed, Frontier())
    assert len(published) == len(set(published))
    at = {id_: index for index, id_ in enumerate(published)}
    for ids in table.committed.values():
        assert [at[id_] for id_ in ids] == sorted(at[id_] for id_ in ids)


def test_a_cursor_that_only_goes_forward_is_found_out() -> None:
    class Forward(Frontier):
        @property
        def ranges(self) -> list[tuple[int, int]]:
            return [Frontier.ranges.fget(self)[-1]]  # type: ignore[attr-defined]

    def skips(seed: int) -> bool:
        table, published, _ = lived(seed, Forward())
        return any(set(ids) - set(published) for ids in table.committed.values())

    assert sum(skips(seed) for seed in range(50)) > 25


def test_gaps_are_forgotten_once_their_transactions_have_ended() -> None:
    frontier = Frontier()
    frontier.saw([5, 9], Horizon(10, 12), is_all=False)
    assert len(frontier.ranges) == 3
    frontier.saw([], Horizon(11, 14), is_all=True)
    assert len(frontier.ranges) == 3, "transaction 12 or 13 may own them"
    frontier.saw([7], Horizon(13, 15), is_all=True)
    assert frontier.ranges[:2] == [(1, 4), (6, 6)]
    frontier.saw([], Horizon(14, 15), is_all=True)
    assert len(frontier.ranges) == 1
