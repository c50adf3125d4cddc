"""A reset in a world: it may die at any of its steps, and whoever comes next finishes it."""

import asyncio
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from headrace.cli.layout import find_layout
from headrace.errors import Fenced, HeadraceError, TopicMismatch
from headrace.events.position import TopicPartition
from headrace.flow.reset import refuse_loss, reset_task
from headrace.testing.lookups import Lookups
from tests.simulation.worlds.cluster import Opening, WorldLink, WorldLog
from tests.simulation.worlds.steps import Step, StepFate

if TYPE_CHECKING:
    from tests.simulation.worlds.world import SimulatedWorld

_STEPS = (Step.RESET_FENCED, Step.RESET_BEGUN, Step.RESET_CLEARING)


class ResetFate(StepFate):
    """That of the command: its steps are those of a unit, under other names."""

    def come_to(self, step: Step) -> None:
        """Note that the command is at a step of its own."""
        if step is Step.FENCED:
            super().come_to(Step.RESET_FENCED)
        elif step is Step.TOLD:
            super().come_to(Step.RESET_CLEARING if self._has_begun else Step.RESET_BEGUN)
            self._has_begun = True

    _has_begun = False


async def reset_main(world: "SimulatedWorld", rng: Random) -> None:
    """Reset the main group, partition after partition; the app has no worker meanwhile."""
    for partition in range(world.shape.partitions):
        fate = ResetFate(world.hits, lambda what: world.tell(f"reset {what}"))
        opening = partial(Opening, world.clock.monotonic(), 0.0)
        link = WorldLink(world.ledger, fate, Lookups(), rng, world.shape.pace, opening)
        log = WorldLog(link)
        try:
            layout = await find_layout(log, world.shop.app.declarations)
        except TopicMismatch:
            return  # no worker has come so far as to create the topics
        group = layout.groups.get("main")
        if group is None or not all(name in world.ledger.topics for name in (group.changelog, *group.inputs)):
            return
        try:
            await refuse_loss(log, group)
        except HeadraceError:
            return
        if rng.random() < 0.7:
            fate.arm_step(rng.choice(_STEPS), rng.choice((1, 1, 2)))
        world.tell(f"main/{partition} is reset")
        command = asyncio.create_task(
            reset_task("shop", group, partition, log=log, clock=world.clock), name="reset"
        )
        fate.on_death = command.cancel
        await asyncio.wait({command})
        place = TopicPartition(group.changelog, partition)
        world.tell(f"main/{partition} stands at unit {world.model.task(place).unit} after the reset")
        failure = None if command.cancelled() else command.exception()
        if isinstance(failure, Fenced):
            # A worker has joined meanwhile: it wins, and finishes what the reset has begun.
            world.tell(f"main/{partition}: {failure.what}")
        elif failure is not None:
            raise failure
