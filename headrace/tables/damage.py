"""What is wrong with a store, noted by whichever thread meets it first."""

import threading
from collections.abc import Callable

from headrace.errors import StoreCorrupt


class Damage:
    """Whether a store can still be trusted; whoever watches is told once, in the thread that found out."""

    def __init__(self) -> None:
        self.what = ""
        """What was found; empty: nothing."""
        self._listener: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def note(self, error: StoreCorrupt) -> None:
        """The store cannot be trusted; the first reason is kept."""
        with self._lock:
            if self.what:
                return
            # Its words alone: with its traceback it would keep the iterators alive that met the damage,
            # and these would keep the files locked.
            self.what, listener = error.what, self._listener
        if listener is not None:
            listener()

    def watch(self, listener: Callable[[], object]) -> None:
        """Call this when damage is found, from any thread; at once if it was found before."""
        with self._lock:
            self._listener, what = listener, self.what
        if what:
            listener()

    def check(self) -> None:
        """Raises: StoreCorrupt once damage was found."""
        if self.what:
            raise StoreCorrupt(self.what)
