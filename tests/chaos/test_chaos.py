"""Forty cycles of chaos on a real Kafka: whatever is killed, everything is there once."""

import logging
import random
from pathlib import Path

import pytest

from tests.chaos.fates import Cycle
from tests.chaos.progress import Tally
from tests.chaos.world import World, open_world
from tests.kafka_fixture import require_kafka

logger = logging.getLogger(__name__)

SEED = 20261128


@pytest.mark.kafka
@pytest.mark.timeout(600)
async def test_workers_and_their_only_broker_are_killed_and_every_event_counts_once(tmp_path: Path) -> None:
    """Three workers under their names: 30 kills, 4 SIGTERM, a rolling restart, a death of the broker."""
    require_kafka()
    cycles = _shuffled({"kill": 30, "term": 4, "rolling": 1, "broker": 1})
    # Long enough for a machine on which a start is slow: who is back in time keeps its partitions.
    settings = {"HEADRACE_SESSION_TIMEOUT_S": "60"}
    async with open_world(tmp_path, dice=random.Random(SEED), settings=settings) as world:
        await _survive(world, cycles)


@pytest.mark.kafka
@pytest.mark.timeout(600)
async def test_zombies_wake_up_and_one_of_three_brokers_dies_and_every_event_counts_once(
    tmp_path: Path,
) -> None:
    """Three workers that are missed after 3 s, on three brokers, one of which dies."""
    require_kafka()
    cycles = _shuffled({"stop": 3, "cluster": 1})
    settings = {"HEADRACE_SESSION_TIMEOUT_S": "3"}
    async with open_world(tmp_path, dice=random.Random(SEED), is_cluster=True, settings=settings) as world:
        await _survive(world, cycles)


def _shuffled(counts: dict[str, int]) -> list[Cycle]:
    cycles = [Cycle(name, number, SEED) for name, count in counts.items() for number in range(count)]
    random.Random(SEED).shuffle(cycles)
    return cycles


async def _survive(world: World, cycles: list[Cycle]) -> None:
    await world.stretch([cycle.live for cycle in cycles])
    tally = Tally()
    for cycle in cycles:
        tally.add(1, 0, 0.0, {f"{cycle.name}: {name}": values for name, values in cycle.figures.items()})
    told = "\n".join(tally.told())
    logger.info("%s events, reads %s\n%s", world.load.events, dict(world.readers.statuses), told)
    assert world.readers.statuses[200] > len(cycles), world.readers.statuses
