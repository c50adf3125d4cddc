"""A worker's disk: its stores outlive the worker, with what was written before it died."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from headrace.tables.store import Row, Store, StoreEngine
from headrace.testing.items import CrashPoint
from headrace.testing.link import Fate


class Disk:
    """The stores of one worker over all its lives; opened by one life after the other."""

    def __init__(self, engine: StoreEngine) -> None:
        self._engine = engine
        self._open: list[Store] = []

    def mounted(self, fate: Fate) -> StoreEngine:
        """The engine that one life of the worker uses."""
        return cast(StoreEngine, _Mounted(self._engine, self._open, fate))

    def lose(self, groups: Sequence[str]) -> None:
        """Lose every store of these groups; the worker is dead."""
        for group in groups:
            for partition in sorted(self._engine.held(group)):
                self._engine.drop(group, partition)

    def close(self) -> None:
        """Let go of all of it."""
        self._engine.close()


class _Mounted:
    """The disk's engine as one life sees it; what is not here is the engine's own."""

    def __init__(self, engine: StoreEngine, opened: list[Store], fate: Fate) -> None:
        self._engine = engine
        self._open = opened
        self._fate = fate

    def open(self, group: str, partition: int) -> Store:
        store = self._engine.open(group, partition)
        self._open.append(store)
        return cast(Store, _Watched(store, self._fate))

    def close(self) -> None:
        """The disk stays; only what this life has left open is closed."""
        while self._open:
            self._open.pop().close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class _Watched:
    """A store whose writer may die; what is not here is the store's own."""

    def __init__(self, store: Store, fate: Fate) -> None:
        self._store = store
        self._fate = fate

    def write(self, rows: Sequence[Row], mark: bytes | None = None) -> None:
        self._fate.pass_by(CrashPoint.RESTORE if self._fate.is_restoring else CrashPoint.APPLY)
        if self._fate.is_dead:
            # A dead process writes nothing, and shows nobody that it did: it ends where it stands.
            raise asyncio.CancelledError
        self._store.write(rows, mark)

    @property
    def mark(self) -> bytes | None:
        return self._store.mark

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
