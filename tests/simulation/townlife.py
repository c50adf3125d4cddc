"""Living through the town of a seed, by itself in its loop."""

import asyncio

from tests.simulation.jumping import JumpingLoop
from tests.simulation.timeless import timeless
from tests.simulation.topology import draw
from tests.simulation.town import Life, Town


def lived(seed: int) -> Life:
    """The life of a seed, from the first event to quiet. Raises: PromiseBroken."""

    async def live() -> Life:
        return await Town(draw(seed)).live()

    with timeless(), asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(live())
