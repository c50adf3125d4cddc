"""The loop of a simulated world: virtual time, and a seeded choice among the tasks that are ready."""

from asyncio import Handle, Task
from collections.abc import Callable
from random import Random
from typing import Any

from tests.simulation.jumping import JumpingLoop

_LOOKED_AT = 0.15
"""So often somebody looks between two turns."""


class SeededLoop(JumpingLoop):
    """Lets ready tasks go on in seeded order.

    Only tasks change places with each other: what asyncio promises of callbacks, that they are called in
    the order in which they were registered, holds for all others.
    """

    _ready: Any

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = Random(f"loop {seed}")
        self.between: Callable[[], object] = lambda: None
        """Called now and then between two turns: nothing may be half done there that anybody could see."""
        self.set_exception_handler(lambda loop, context: None)  # the dead have no failures that matter

    def _run_once(self) -> None:
        ready = self._ready
        if len(ready) > 1:
            at = [index for index, handle in enumerate(ready) if _is_task_step(handle)]
            if len(at) > 1:
                steps = [ready[index] for index in at]
                self._rng.shuffle(steps)
                for index, handle in zip(at, steps, strict=True):
                    ready[index] = handle
        if self._rng.random() < _LOOKED_AT:
            self.between()
        super()._run_once()  # type: ignore[misc]


def _is_task_step(handle: Handle) -> bool:
    callback: Any = handle._callback  # type: ignore[attr-defined]
    return type(callback).__name__ == "TaskStepMethWrapper" or (
        getattr(callback, "__name__", "") == "task_wakeup" and isinstance(callback.__self__, Task)
    )
