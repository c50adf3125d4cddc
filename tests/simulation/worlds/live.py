"""Living through the world of a seed, by itself in its loop."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from headrace.flow import applying, clearing, restore
from headrace.flow.requests import desk
from tests.simulation.timeless import timeless
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
    """What is written in slices comes in small ones, as the shape wants them."""
    with timeless([(module, "APPLY_ROWS_MAX", shape.slice_rows) for module in _SLICED]), watched_seams():
        yield
