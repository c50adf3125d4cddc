"""Whichever way transactions interleave: every row is found once, and the order of commits is kept by key."""

from collections.abc import Sequence
from random import Random

import pytest

from headrace.bridge import frontier as frontiers
from headrace.bridge.frontier import Frontier, Look
from headrace.bridge.outboxtable import Snapshot

KEYS = 3


class Table:
    """An outbox in a database with snapshots, as PostgreSQL has them: in one turn one thing happens."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.next_id = 1
        self.next_xid = 10
        self.last_ended = 9
        self.own = 0
        self.open: dict[int, list[tuple[int, int]]] = {}
        """By transaction: ids and keys of its rows, which nobody else sees."""
        self.visible: dict[int, int] = {}
        self.locked: dict[int, int] = {}
        """Key to the transaction that holds it."""
        self.committed: dict[int, list[int]] = {key: [] for key in range(KEYS)}
        """By key the ids in the order of their commits."""

    def begin_own(self) -> int:
        """The relay's transaction deletes: it is given an id."""
        self.own = self.next_xid
        self.next_xid += 1
        return self.own

    def end_own(self) -> None:
        self.last_ended = max(self.last_ended, self.own)
        self.own = 0

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
        self.last_ended = max(self.last_ended, xid)
        for id_, key in self.open.pop(xid):
            if is_committed:
                self.visible[id_] = key
                self.committed[key].append(id_)
        self.locked = {key: owner for key, owner in self.locked.items() if owner != xid}

    def snapshot(self) -> Snapshot:
        """As the server takes it: `xmax` follows the last that has ended, and younger ones run."""
        return Snapshot(self.last_ended + 1, frozenset(xid for xid in self.open if xid <= self.last_ended))

    def end_all(self) -> None:
        for xid in list(self.open):
            self._end(xid, is_committed=True)


class Relay:
    """What a courier does with a frontier, in a world of its own."""

    def __init__(self, table: Table, frontier: Frontier) -> None:
        self.published: list[int] = []
        self.looked_for = 0
        self._table = table
        self._frontier = frontier

    def poll(self, happen: int) -> bool:
        """Look until there are rows, or none in front; things happen between the statements."""
        table, frontier = self._table, self._frontier
        bound = table.begin_own() if frontier.needs_bound or table.rng.random() < 0.5 else None
        while True:
            look = frontier.look()
            self.looked_for += len(look.ranges)
            limit = table.rng.randint(1, 6)
            seen = sorted(id_ for id_ in table.visible if _is_in(id_, look))
            found = seen[:limit]
            is_taken = frontier.saw(look, found, table.snapshot(), bound, is_all=len(seen) < limit)
            for _ in range(table.rng.randint(0, happen)):
                table.happen()
            if is_taken and (found or look.is_front):
                break
        self.published += found
        table.end_own()
        for id_ in found:
            del table.visible[id_]
        return bool(found)


def _is_in(id_: int, look: Look) -> bool:
    return any(low <= id_ <= high for low, high in look.ranges)


def lived(seed: int, frontier: Frontier) -> tuple[Table, list[int]]:
    rng = Random(seed)
    table = Table(rng)
    relay = Relay(table, frontier)
    for _ in range(rng.randint(20, 300)):
        for _ in range(rng.randint(0, 12)):
            table.happen()
        relay.poll(3)
    table.end_all()
    while relay.poll(0):
        pass
    return table, relay.published


def is_kept(table: Table, published: list[int]) -> bool:
    """Whether every row was found once, and those of a key in the order of their commits."""
    at = {id_: index for index, id_ in enumerate(published)}
    if len(at) != len(published) or any(id_ not in at for ids in table.committed.values() for id_ in ids):
        return False
    return all([at[i] for i in ids] == sorted(at[i] for i in ids) for ids in table.committed.values())


@pytest.mark.parametrize("covered", [0, 3, frontiers.COVERED_RANGES_MAX])
def test_nothing_is_skipped_nothing_comes_twice_and_keys_keep_their_order(
    monkeypatch: pytest.MonkeyPatch, covered: int
) -> None:
    monkeypatch.setattr(frontiers, "COVERED_RANGES_MAX", covered)
    monkeypatch.setattr(frontiers, "DUE_RANGES_MAX", 2)
    for seed in range(150):
        assert is_kept(*lived(seed, Frontier())), f"seed {seed}"


class Forward(Frontier):
    """Looks at nothing but what is behind the highest."""

    def look(self) -> Look:
        return Look([(self._highest + 1, frontiers.ID_MAX)], frozenset(self._groups), is_front=True)


class Hasty(Frontier):
    """Takes `xmax` for the next transaction id, as its name says: those that run behind it are forgotten."""

    def saw(
        self, look: Look, ids: Sequence[int], snapshot: Snapshot, bound: int | None, *, is_all: bool
    ) -> bool:
        return super().saw(look, ids, snapshot, min(bound, snapshot.xmax) if bound else None, is_all=is_all)


class Unsorted(Frontier):
    """Takes rows although older ones of their keys may be in gaps that were not looked at."""

    def saw(
        self, look: Look, ids: Sequence[int], snapshot: Snapshot, bound: int | None, *, is_all: bool
    ) -> bool:
        super().saw(look, ids, snapshot, bound, is_all=is_all)
        return True


@pytest.mark.parametrize("broken", [Forward, Hasty, Unsorted])
def test_frontiers_that_forget_or_hurry_are_found_out(
    monkeypatch: pytest.MonkeyPatch, broken: type[Frontier]
) -> None:
    monkeypatch.setattr(frontiers, "COVERED_RANGES_MAX", 0)
    assert any(not is_kept(*lived(seed, broken())) for seed in range(400))


def test_gaps_are_forgotten_once_their_transactions_have_ended() -> None:
    frontier = Frontier()

    def saw(ids: list[int], snapshot: Snapshot, bound: int | None) -> int:
        assert frontier.saw(frontier.look(), ids, snapshot, bound, is_all=True)
        return frontier.gaps

    assert saw([5, 9], Snapshot(12, frozenset()), None) == 2
    assert saw([], Snapshot(12, frozenset()), 14) == 2, "transaction 12 or 13 may own them"
    assert saw([7], Snapshot(14, frozenset({12})), None) == 3
    assert saw([], Snapshot(15, frozenset()), None) == 0


def test_a_transaction_that_lasts_costs_nothing_however_many_others_are_rolled_back() -> None:
    frontier, lasting = Frontier(), 10
    looked_for = 0
    for turn in range(1, 3_000):
        look = frontier.look()
        looked_for += len(look.ranges)
        xid = lasting + turn
        assert frontier.saw(look, [2 * turn], Snapshot(xid, frozenset({lasting})), xid, is_all=True)
    assert frontier.gaps > 2_900
    assert looked_for < 3_000 * (frontiers.COVERED_RANGES_MAX + 3)
    # It ends, and its rows are before all others: the row in front is dropped until they are found.
    look = frontier.look()
    assert not frontier.saw(look, [6_001], Snapshot(9_000, frozenset()), 9_000, is_all=True)
    found: list[int] = []
    while not (look := frontier.look()).is_front:
        ids = [low for low, _ in look.ranges]
        assert frontier.saw(look, ids, Snapshot(9_000, frozenset()), 9_000, is_all=True)
        found += ids
    assert found == sorted(found)
    assert frontier.gaps < frontiers.COVERED_RANGES_MAX
