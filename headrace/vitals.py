"""What must go on in a worker for it to be alive: each part says so itself, and a watchdog listens.

Written in the loop, or by a thread of the log, and read by the watchdog's own thread: every field is
replaced whole, and nothing here waits.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """What is wrong when a part does not go on; of several the first one here is the cause."""

    LOOP = "blocked loop"
    BROKER = "unreachable broker"
    MEMBERSHIP = "dead assignor"
    FETCH = "dead fetch"
    HANDLER = "stuck handler"


class Trouble(NamedTuple):
    """Why a worker is not alive any more."""

    kind: Kind
    what: str
    """A sentence for people, without addresses."""


class Vital:
    """One part. It shows a sign of life as it goes, and says when none is to be expected of it."""

    __slots__ = ("_beats", "_progress", "ended", "is_expected", "kind", "name")

    def __init__(self, kind: Kind, name: str) -> None:
        self.kind = kind
        self.name = name
        self.is_expected = False
        self.ended = ""
        """How it ended, though it never may; empty while it goes on."""
        self._beats = 0
        self._progress: Callable[[], object] | None = None

    def beat(self) -> None:
        """Show that it goes on."""
        self._beats += 1

    def expect(self, progress: Callable[[], object] | None = None) -> None:
        """Let signs be expected from here on; `progress` is one whenever it gives something new."""
        self._progress = progress
        self._beats += 1
        self.is_expected = True

    def rest(self) -> None:
        """Let none be expected until further notice."""
        self.is_expected = False
        self._progress = None

    @property
    def sign(self) -> object:
        """Changes with every sign of life; None while none is expected."""
        progress = self._progress
        return (self._beats, progress() if progress is not None else None) if self.is_expected else None


class Vitals:
    """The parts of one run."""

    def __init__(self) -> None:
        self.all: tuple[Vital, ...] = ()
        self.trouble: Trouble | None = None
        """Set once: a worker that was found dead is not alive again."""

    def add(self, kind: Kind, name: str) -> Vital:
        """A new part; no sign is expected of it yet."""
        vital = Vital(kind, name)
        self.all = (*self.all, vital)
        return vital

    def remove(self, vital: Vital) -> None:
        """Forget a part that has ended as it should."""
        self.all = tuple(each for each in self.all if each is not vital)

    def must_run(self, task: "asyncio.Task[None]", kind: Kind) -> Vital:
        """A part that is dead as soon as the task ends without an error, unless it was removed before.

        An error is raised by whoever waits for the task.
        """
        vital = self.add(kind, f"task {task.get_name()}")

        def note(ended: "asyncio.Task[None]") -> None:
            if ended.cancelled() or ended.exception() is None:
                vital.ended = "was cancelled" if ended.cancelled() else "has ended"

        task.add_done_callback(note)
        return vital
