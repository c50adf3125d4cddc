"""Every step of a unit of work by name: a worker may die between any two of them."""

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any

from headrace.flow import handling, task
from headrace.flow.admission import Admission
from headrace.flow.outgate import Outgate
from headrace.tables.view import PartitionView
from headrace.testing.link import Fate


class Step(Enum):
    """Where a worker may be in its work; the steps of the unit in their order, then the others."""

    FETCHED = "events were fetched, none of them is admitted"
    ADMITTED = "events were admitted, none of them is decoded"
    DECODED = "events were decoded, none of them is in a hand"
    RUN = "an agent is in the middle of an event: rows are written, nothing is sent"
    SEALED = "a unit is sealed, no transaction is begun"
    BEGIN = "the unit before is acknowledged, nothing of this one is sent"
    PARTLY = "the changelog is appended, the outputs are not"
    APPENDED = "everything is appended, the transaction is not ended"
    UNKNOWN_COMMITTED = "the end was sent and committed, its outcome is not known"
    UNKNOWN_ABORTED = "the end was sent and is lost or late, its outcome is not known"
    COMMITTED = "the transaction is committed, its answer is on the way"
    TOLD = "the unit is acknowledged, no reader has seen it"
    PUBLISHED = "readers see the unit, the store has nothing of it"
    SLICED = "the store has some rows of the unit, and not its mark"
    UNMARKED = "all slices but the last one, which has the mark, are written"
    APPLIED = "the store has the unit and its mark"

    FENCED = "take-over: older writers are fenced, nothing is read"
    OPENED = "take-over: the store is open, nothing is read"
    RESTORING = "take-over: the store says that it is being restored, nothing is read"
    CATCHING_UP = "take-over: a part of the changelog is read"
    CAUGHT_UP = "take-over: the store has all of the changelog and says so"
    SERVED = "take-over: readers are answered, no event is fetched"

    RESET_FENCED = "reset: the task is fenced, nothing is written"
    RESET_BEGUN = "reset: its first unit is committed, no row is deleted"
    RESET_CLEARING = "reset: some rows are deleted, not all"
    RESET_TAKEN_OVER = "reset: a worker finishes one that died, a slice is committed and not in its store"

    REQUESTED = "a request has sent its events, which are not begun to be written"
    SENT = "the events of a request are committed, it is not answered"
    RECORDED = "a request with a key is committed, it is not in the store"
    REMEMBERED = "a request with a key is in the store, it is not answered"
    FOLLOWED = "a follower has shown a unit of a global table, its store has it"

    SINK_SENT = "an applier has sent a unit to the database, which has not committed it"
    SINK_COMMITTED = "the database has a unit of an applier, the log has not"
    RELAYED = "events of an outbox are in the log, and still in the database"

    QUIET = "at any moment"


class StepFate(Fate):
    """When a worker dies: at the n-th time that it comes to a step."""

    def __init__(self, hits: Counter[Step], tell: Callable[[str], None]) -> None:
        super().__init__()
        self._hits = hits
        self._tell = tell
        self._step: Step | None = None
        self._steps_left = 0

    def arm_step(self, step: Step, after: int) -> None:
        """Let the worker die when it comes to this step for so many times from now."""
        self._step, self._steps_left = step, after

    def disarm(self) -> None:
        """Let it live."""
        self._step = None

    def come_to(self, step: Step) -> None:
        """Note that the worker is here; it may die of it."""
        if step is self._step and not self.is_dead:
            self._steps_left -= 1
            if self._steps_left <= 0:
                self.die_at(step)

    def die_at(self, step: Step) -> None:
        """Die here and now, and let it be counted."""
        if not self.is_dead:
            self._hits[step] += 1
            self._tell(f"dies: {step.name}")
            self.die()

    def come_to_or_end(self, step: Step) -> None:
        """As `come_to`, in code that cannot wait: the dead end where they stand."""
        self.come_to(step)
        if self.is_dead:
            raise asyncio.CancelledError

    async def stand_at(self, step: Step) -> None:
        """As `come_to`; who stands still stays here, the dead until they are cancelled."""
        await self.going.wait()
        self.come_to(step)
        await self.until_buried()

    async def until_buried(self) -> None:
        """Return at once, unless dead."""
        if self.is_dead:
            await asyncio.get_running_loop().create_future()


fate_of_now: ContextVar[StepFate] = ContextVar("fate_of_now")
"""That of the worker whose task runs now: it is inherited by everything that the worker starts."""


# --- steps that are inside of the product, and are met at its seams


def _then(step: Step) -> Callable[[Any], Any]:
    """Wraps a coroutine function: the step is behind it."""

    def wrap(function: Any) -> Any:
        @functools.wraps(function)
        async def stepped(*args: Any, **options: Any) -> Any:
            result = await function(*args, **options)
            if (fate := fate_of_now.get(None)) is not None:
                await fate.stand_at(step)
            return result

        return stepped

    return wrap


def _before_commit(function: Any) -> Any:
    @functools.wraps(function)
    async def commit(*args: Any, **options: Any) -> Any:
        if (fate := fate_of_now.get(None)) is not None:
            await fate.stand_at(Step.REQUESTED)
        result = await function(*args, **options)
        if fate is not None:
            await fate.stand_at(Step.SENT)
        return result

    return commit


def _serve(function: Any) -> Any:
    @functools.wraps(function)
    def serve(self: PartitionView, *args: Any, **options: Any) -> None:
        function(self, *args, **options)
        if (fate := fate_of_now.get(None)) is not None:
            fate.come_to_or_end(Step.SERVED)

    return serve


_SEAMS: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
    (Admission, "take", _then(Step.ADMITTED)),
    (handling, "decode_events", _then(Step.DECODED)),
    (task, "seal", _then(Step.SEALED)),
    (Outgate, "_commit", _before_commit),
    (PartitionView, "serve", _serve),
)


@contextmanager
def watched_seams() -> Iterator[None]:
    """Let workers come to their steps inside of the product, too."""
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in _SEAMS]
    try:
        for owner, name, wrap in _SEAMS:
            setattr(owner, name, wrap(getattr(owner, name)))
        yield
    finally:
        for owner, name, original in kept:
            setattr(owner, name, original)
