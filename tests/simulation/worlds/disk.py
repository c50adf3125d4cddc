"""The disk of a simulated worker: it may be full, lose stores, and rot; its stores outlive the worker."""

import asyncio
import errno
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

from headrace.errors import StoreCorrupt
from headrace.flow.followers import followed_name
from headrace.flow.requests.answer import NAME as REQUESTS
from headrace.tables.changelog import decode_mark
from headrace.tables.damage import Damage
from headrace.tables.memory import MemoryEngine, MemoryStore
from headrace.tables.store import Row, Snapshot, Store
from tests.simulation.worlds.steps import Step, StepFate

GROUPS = ("main", "archive", "rates", "applier")


class WorldDisk:
    """The stores of one worker over all its lives."""

    def __init__(self, rng: Random) -> None:
        self.engine = MemoryEngine()
        self.is_full = False
        self.rotten: set[tuple[str, int]] = set()
        """Stores whose next read, of a row or when they are opened, finds damage."""
        self._rng = rng
        self._open: list[Store] = []

    def mounted(self, fate: StepFate) -> "MountedDisk":
        """The disk as one life of the worker has it."""
        return MountedDisk(self, fate, self._open)

    def lose(self) -> None:
        """Lose everything; the worker is dead."""
        for group, partition in self.held():
            self.engine.drop(group, partition)
        self.rotten.clear()

    def held(self) -> Sequence[tuple[str, int]]:
        """Every store that there is."""
        names = [*GROUPS, *map(followed_name, GROUPS), REQUESTS]
        return [(name, number) for name in names for number in sorted(self.engine.held(name))]

    def rot(self) -> str:
        """Damage one of the stores, if there is any; which."""
        held = self.held()
        if not held:
            return "nothing"
        chosen = self._rng.choice(held)
        self.rotten.add(chosen)
        return f"{chosen[0]}/{chosen[1]}"

    def close(self) -> None:
        """Let go of all of it."""
        self.engine.close()


class MountedDisk:
    """The engine of one life (tables.store.StoreEngine)."""

    is_in_memory = True

    def __init__(self, disk: WorldDisk, fate: StepFate, opened: list[Store]) -> None:
        self._disk = disk
        self._fate = fate
        self._open = opened

    def open(self, group: str, partition: int) -> Store:
        """The store of one task; damage may be found as it is opened."""
        self._fate.come_to_or_end(Step.QUIET)
        place = (group, partition)
        if place in self._disk.rotten and self._disk._rng.random() < 0.5:
            raise StoreCorrupt("a file of the store cannot be read")
        store = self._disk.engine.open(group, partition)
        self._open.append(store)
        self._fate.come_to_or_end(Step.OPENED)
        return RottingStore(store, self._disk, self._fate, place)

    def open_read_only(self, group: str, partition: int) -> Store | None:
        """As the engine."""
        return self._disk.engine.open_read_only(group, partition)

    def held(self, group: str) -> Mapping[int, int]:
        """As the engine."""
        return self._disk.engine.held(group)

    def drop(self, group: str, partition: int) -> None:
        """Remove a store, and with it what was wrong with it."""
        self._fate.come_to_or_end(Step.QUIET)
        self._disk.engine.drop(group, partition)
        self._disk.rotten.discard((group, partition))

    def quarantine(self, group: str, partition: int, time_s: float) -> Path | None:
        """Move a store aside."""
        self.drop(group, partition)
        return None

    def close(self) -> None:
        """The disk stays; only what this life has left open is closed."""
        while self._open:
            self._open.pop().close()


class RottingStore:
    """A store in memory on a disk that may be full or rotten (tables.store.Store)."""

    is_in_memory = True

    def __init__(self, store: Store, disk: WorldDisk, fate: StepFate, place: tuple[str, int]) -> None:
        assert isinstance(store, MemoryStore)
        self.damage = Damage()
        self._store = store
        self._disk = disk
        self._fate = fate
        self._place = place
        self._is_request = place[0] == REQUESTS
        self._is_followed = place[0].endswith(followed_name(""))
        self._slices = 0
        self._was_restoring = False
        self.writes = 0
        """Batches that were written."""

    def _read(self) -> None:
        if self._place in self._disk.rotten:
            found = StoreCorrupt("a block of the store has another checksum")
            self.damage.note(found)
            raise found

    def get(self, key: bytes) -> bytes | None:
        """The row bytes of a key. Raises: StoreCorrupt."""
        self._read()
        return self._store.get(key)

    def write(self, rows: Sequence[Row], mark: bytes | None = None) -> None:
        """Apply rows; the dead write nothing. Raises: OSError when the disk is full."""
        if self._fate.is_dead:
            raise asyncio.CancelledError
        told = decode_mark(mark)
        is_restoring = told is not None and told.is_restoring
        was_reset = told is not None and told.position is not None and told.position.reset is not None
        if was_reset and rows and not is_restoring and all(row is None for _, row in rows):
            self._fate.come_to_or_end(Step.RESET_TAKEN_OVER)
        self._come_before(is_last=mark is not None, is_restoring=is_restoring)
        if self._disk.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._store.write(rows, mark)
        self.writes += 1
        self._come_behind(rows, mark, is_restoring=is_restoring)

    def _come_before(self, *, is_last: bool, is_restoring: bool) -> None:
        if self._is_request or self._is_followed or is_restoring:
            return
        if is_last and self._slices:
            self._fate.come_to_or_end(Step.UNMARKED)
        elif not self._slices:
            self._fate.come_to_or_end(Step.PUBLISHED)

    def _come_behind(self, rows: Sequence[Row], mark: bytes | None, *, is_restoring: bool) -> None:
        step = Step.APPLIED
        if self._is_request:
            step = Step.REMEMBERED
        elif is_restoring:
            step = Step.CATCHING_UP if rows else Step.RESTORING
            self._was_restoring = True
        elif self._was_restoring and not rows:
            step, self._was_restoring = Step.CAUGHT_UP, False
        elif self._is_followed:
            step = Step.FOLLOWED
        elif mark is None:
            step = Step.SLICED
        self._slices = self._slices + 1 if mark is None else 0
        self._fate.come_to_or_end(step)

    @property
    def mark(self) -> bytes | None:
        """The mark of the last write that carried one."""
        return self._store.mark

    def snapshot(self) -> Snapshot:
        """The rows as of now."""
        return _RottingSnapshot(self._store.snapshot(), self)

    def rows_estimate(self) -> int:
        """How many rows there are."""
        return self._store.rows_estimate()

    def size_bytes(self) -> int:
        """How many bytes they have."""
        return self._store.size_bytes()

    def close(self) -> None:
        """End its snapshots and take no more writes."""
        # The engine opens no store that is damaged until it is quarantined.
        self._store.damage = self.damage
        self._store.close()


class _RottingSnapshot:
    """Rows at one instant; a scan that meets damage says so at its end, and not before."""

    def __init__(self, snapshot: Snapshot, store: RottingStore) -> None:
        self._snapshot = snapshot
        self._of = store

    def get(self, key: bytes) -> bytes | None:
        """The row bytes of a key. Raises: StoreCorrupt."""
        self._of._read()
        return self._snapshot.get(key)

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows in key order; of a rotten store half of them, and then StoreCorrupt."""
        if self._of._place in self._of._disk.rotten:
            found = list(self._snapshot.scan(start, end))
            yield from found[: len(found) // 2]
            self._of._read()
        yield from self._snapshot.scan(start, end)

    def close(self) -> None:
        """Let go of it."""
        self._snapshot.close()
