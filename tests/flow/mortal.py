"""A log that can be cut off and stores that can fail, at a point that the test names."""

import asyncio
from collections.abc import Sequence

from headrace.errors import Unavailable
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.tables.memory import MemoryEngine, MemoryStore
from headrace.tables.store import Row


class MortalCluster(SimulatedCluster):
    """A cluster whose network is cut after a number of calls, until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.died = asyncio.Event()
        """Set while nobody reaches the log."""
        self._hops_left: int | None = None

    def cut_after(self, hops: int) -> None:
        """Cut the network at this call from now on."""
        self._hops_left = hops

    def mend(self) -> None:
        """Let everybody reach the log again."""
        self._hops_left = None
        self.died.clear()

    async def hop(self) -> None:
        """One way to the log or back. Raises: Unavailable while the network is cut."""
        if self._hops_left is not None:
            self._hops_left -= 1
            if self._hops_left < 0:
                self.died.set()
                raise Unavailable("the network is cut")
        await super().hop()


class _Store(MemoryStore):
    """Rows in memory that survive the engine; a write fails when its turn has come."""

    engine: "LastingEngine"

    def reopened(self) -> "_Store":
        """A store of its own with the same rows and mark."""
        store = _Store()
        store.engine = self.engine
        store._rows, store._bytes, store._mark = dict(self._rows), self._bytes, self._mark
        return store

    def write(self, rows: Sequence[Row], mark: bytes | None = None) -> None:
        """Apply rows and mark. Raises: OSError when this write's turn has come."""
        self.engine.count_write()
        super().write(rows, mark)


class LastingEngine(MemoryEngine):
    """Stores that are still there after a restart, as files are."""

    def __init__(self) -> None:
        super().__init__()
        self._writes_left: int | None = None

    def fail_after(self, writes: int) -> None:
        """Let this write from now on fail, once."""
        self._writes_left = writes

    def mend(self) -> None:
        """Let every write succeed again."""
        self._writes_left = None

    def count_write(self) -> None:
        """Note a write. Raises: OSError when it is to fail."""
        if self._writes_left is not None:
            self._writes_left -= 1
            if self._writes_left < 0:
                self._writes_left = None
                raise OSError("no space left on device")

    def open(self, group: str, partition: int) -> MemoryStore:
        """The store of one task, with the rows it had. Raises: StoreInUse."""
        if (group, partition) not in self._stores:
            first = self._stores[group, partition] = _Store()
            first.engine = self
            first.close()
        store = super().open(group, partition)
        assert isinstance(store, _Store)
        return store

    def close(self) -> None:
        """Close the stores and keep their rows."""
        for store in self._stores.values():
            store.close()
