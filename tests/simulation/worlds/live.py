"""Living through the world of a seed, by itself in its loop."""

import asyncio
import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from headrace import turns
from headrace.flow import applying, clearing, restore
from headrace.flow.requests import desk
from tests.simulation.worlds.loop import SeededLoop
from tests.simulation.worlds.shape import Shape, draw
from tests.simulation.worlds.steps import watched_seams
from tests.simulation.worlds.world import Life, SimulatedWorld

REPLAY = "SIMULATION_SEED={seed} pytest tests/simulation/worlds"
_SLICED: tuple[ModuleType, ...] = (applying, restore, clearing, desk)


def lived(seed: int, shape: Shape | None = None) -> Life:
    """The life of a seed, from the first event to quiet. Raises: PromiseBroken, with its story."""
    drawn = shape or draw(seed)

    async def live() -> Life:
        return await SimulatedWorld(drawn).live()

    with _by_itself(drawn), asyncio.Runner(loop_factory=lambda: SeededLoop(seed)) as runner:
        try:
            return runner.run(live())
        except BaseException as error:
            error.add_note(f"live through it again: {REPLAY.format(seed=seed)}")
            raise


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage meanwhile: with all these modules a collection costs as much as a world."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()
        gc.collect()


@contextmanager
def _by_itself(shape: Shape) -> Iterator[None]:
    """Nothing depends on how fast this machine is, and what is written in slices comes in small ones."""
    instead: list[tuple[ModuleType, str, Any]] = [
        (time, "perf_counter", lambda: 0.0),
        (turns, "TURN_S", float("inf")),
        *((module, "APPLY_ROWS_MAX", shape.slice_rows) for module in _SLICED),
    ]
    kept = [(module, name, getattr(module, name)) for module, name, _ in instead]
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for module, name, value in instead:
            setattr(module, name, value)
        with watched_seams():
            yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
        logging.disable(level)
