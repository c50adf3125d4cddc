"""What befalls the workers and their brokers, one cycle at a time."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient

from headrace.testing.kafka_broker import KafkaBroker
from headrace.testing.kafka_cluster import NODES, KafkaCluster
from tests.chaos.world import World, generation
from tests.process.workers import breath

Figures = dict[str, list[float]]
"""What was measured, by name; times are in seconds."""

_LIFE_S_MAX = 0.8
"""How long, at most, everybody lives in peace before something happens."""
_SECOND_KILL_SHARE = 0.15
"""So many workers are killed once more while they start."""
_ISR_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
"""Longest time from SIGTERM to the end of a worker, on a machine that others use, too; 10 s are promised."""


async def kill(world: World, dice: random.Random, number: int, figures: Figures) -> None:
    """kill -9 one worker at a random instant; every second one loses its data folder."""
    victim = dice.choice(world.crew)
    is_disk_lost = number % 2 == 1
    await breath(dice.random() * _LIFE_S_MAX)
    await victim.kill()
    if is_disk_lost:
        victim.lose_disk()
    if dice.random() < _SECOND_KILL_SHARE:
        await victim.start()
        await breath(dice.random() * 2.0)
        await victim.kill()
    began_s = time.monotonic()
    await victim.start()
    await victim.until_ready()
    figures["ready, disk lost" if is_disk_lost else "ready, disk kept"].append(time.monotonic() - began_s)


async def stop(world: World, dice: random.Random, number: int, figures: Figures) -> None:
    """SIGSTOP until the others have taken everything over, then SIGCONT: the zombie changes nothing."""
    victim = dice.choice(world.crew)
    others = [worker for worker in world.crew if worker is not victim]
    await breath(dice.random() * _LIFE_S_MAX)
    victim.pause()
    try:
        began_s = time.monotonic()
        await world.until_acknowledged(began_s)
        await world.until_covered(others)
        figures["taken over"].append(time.monotonic() - began_s)
        await breath(dice.random() * _LIFE_S_MAX)
    finally:
        victim.resume()
    began_s = time.monotonic()
    await world.until_settled()
    figures["settled after SIGCONT"].append(time.monotonic() - began_s)


async def broker(world: World, dice: random.Random, number: int, figures: Figures) -> None:
    """kill -9 the only broker and start it again: the workers outlive it."""
    assert isinstance(world.broker, KafkaBroker)
    await breath(dice.random() * _LIFE_S_MAX)
    world.broker.kill()
    await breath(dice.random() * 2.0)
    await asyncio.to_thread(world.broker.start)
    await _until_resumed(world, figures)


async def cluster(world: World, dice: random.Random, number: int, figures: Figures) -> None:
    """kill -9 one of three brokers: everything goes on without it, and it comes back."""
    assert isinstance(world.broker, KafkaCluster)
    victim = dice.choice(world.broker.nodes)
    await breath(dice.random() * _LIFE_S_MAX)
    victim.kill()
    await _until_resumed(world, figures)
    await asyncio.to_thread(victim.restart)
    await _until_in_sync(world.broker)
    await world.until_settled()


async def _until_resumed(world: World, figures: Figures) -> None:
    """Return once what was acknowledged after this moment has been handled."""
    began_s = time.monotonic()
    await world.until_acknowledged(began_s)
    await world.until_covered(world.crew)
    figures["handled again"].append(time.monotonic() - began_s)
    await world.until_settled()


async def _until_in_sync(cluster: KafkaCluster) -> None:
    """Return once every replica of every partition has all of it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.address)
    await admin.start()
    try:
        async with asyncio.timeout(_ISR_TIMEOUT_S):
            while any(
                len(partition["isr"]) < NODES
                for topic in await admin.describe_topics()
                for partition in topic["partitions"]
            ):
                await breath(0.2)
    finally:
        await admin.close()


async def term(world: World, dice: random.Random, number: int, figures: Figures) -> None:
    """SIGTERM under load: the unit in hand is finished, nobody else notices."""
    victim = dice.choice(world.crew)
    await world.until_settled()
    before = generation(victim)
    await breath(dice.random() * _LIFE_S_MAX)
    began_s = time.monotonic()
    assert await victim.terminate(STOP_TIMEOUT_S) == 0, victim.tail()
    figures["ended"].append(time.monotonic() - began_s)
    began_s = time.monotonic()
    await victim.start()
    await victim.until_ready()
    figures["ready"].append(time.monotonic() - began_s)
    assert generation(victim) == before, f"a rebalance\n{world.tails()}"


async def rolling(world: World, dice: random.Random, number: int, figures: Figures) -> None:
    """Restart every worker in turn, each under its name: the group stays in its generation."""
    await world.until_settled()
    before = {generation(worker) for worker in world.crew}
    began_s = time.monotonic()
    for worker in dice.sample(list(world.crew), len(world.crew)):
        await breath(dice.random() * _LIFE_S_MAX)
        assert await worker.terminate(STOP_TIMEOUT_S) == 0, worker.tail()
        await worker.start()
        await worker.until_ready()
    figures["all restarted"].append(time.monotonic() - began_s)
    assert {generation(worker) for worker in world.crew} == before, f"a rebalance\n{world.tails()}"


async def moves(world: World, dice: random.Random, number: int, figures: Figures) -> None:
    """A worker leaves and comes back, without a name to come back to: its partitions move twice."""
    before = world.moves
    victim = dice.choice(world.crew)
    began_s = time.monotonic()
    assert await victim.terminate(STOP_TIMEOUT_S) == 0, victim.tail()
    await world.until_settled()
    await victim.start()
    await victim.until_ready()
    await world.until_settled()
    figures["moved away and back"].append(time.monotonic() - began_s)
    figures["moves"].append(world.moves - before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One kind of cycle, and the world it takes place in."""

    act: Callable[[World, random.Random, int, Figures], Awaitable[None]]
    cycles: int
    """How often it is lived through when nothing else is asked."""
    session_timeout_s: int = 10
    """The default; shorter where the others must take over in the cycle, longer where they must not."""
    is_cluster: bool = False
    is_static: bool = True

    @property
    def settings(self) -> dict[str, str]:
        """What its workers are told beside their names."""
        return {"HEADRACE_SESSION_TIMEOUT_S": str(self.session_timeout_s)}


FATES = {
    "kill": Fate(act=kill, cycles=500),
    "stop": Fate(act=stop, cycles=100, session_timeout_s=3),
    "broker": Fate(act=broker, cycles=30),
    "cluster": Fate(act=cluster, cycles=30, is_cluster=True),
    "term": Fate(act=term, cycles=200, session_timeout_s=30),
    "rolling": Fate(act=rolling, cycles=20, session_timeout_s=30),
    "moves": Fate(act=moves, cycles=125, is_static=False),
}
"""By name, in the order in which they are lived through."""


@dataclass
class Cycle:
    """One cycle, with dice of its own: they fall the same whenever it is lived through."""

    name: str
    number: int
    seed: int
    figures: Figures = field(default_factory=lambda: defaultdict(list))

    async def live(self, world: World) -> None:
        """Live through it. Raises: AssertionError when a worker does not do what it must."""
        await FATES[self.name].act(world, self.dice(), self.number, self.figures)

    def dice(self) -> random.Random:
        """What decides in this cycle."""
        return random.Random(f"{self.seed}/{self.name}/{self.number}")
