"""What comes from producers whom no trouble of a worker touches: orders, rates, and garbage."""

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from headrace.events.position import TopicPartition
from headrace.testing.producer import Producer
from tests.simulation.jumping import time_passes
from tests.simulation.worlds.events import RATES, Order, Rated

if TYPE_CHECKING:
    from tests.simulation.worlds.world import SimulatedWorld

_HOW = {
    "plain": 20, "closes": 3, "raises": 1, "flaky": 1, "too large": 1, "refused": 1, "blocks": 1, "hangs": 1,
}  # fmt: skip
_GARBAGE = 0.04


class Outside:
    """The producers of one world."""

    def __init__(self, world: "SimulatedWorld") -> None:
        self._world = world
        self._rng = Random(f"outside {world.shape.seed}")
        self._producer = Producer(world.ledger, world.clock)
        self._versions: Counter[int] = Counter()
        self.orders = 0
        self._more = 0

    def order(self, order_id: str, rng: Random, **seen: int) -> Order:
        """Some order."""
        how = rng.choices(list(_HOW), list(_HOW.values()))[0]
        return Order(order_id, rng.randrange(self._world.shape.accounts), rng.randint(1, 999), how, **seen)

    async def send(self) -> None:
        """Send everything, at seeded moments."""
        rng, shape = self._rng, self._world.shape
        moments = sorted(rng.random() * shape.busy_s for _ in range(shape.orders))
        for at, moment in enumerate(moments):
            await time_passes(max(0.0, moment - self._world.clock.monotonic()))
            if "orders" not in self._world.ledger.topics:
                continue
            if shape.has_rates and rng.random() < 0.4:
                await self._rate()
            for index in range(rng.choice((1, 1, 1, 4))):
                await self._order(f"o{at}.{index}")
            self._producer.commit()

    async def _rate(self) -> None:
        kind = self._rng.randrange(RATES)
        self._versions[kind] += 1
        rated = Rated(f"r{kind}.{self._versions[kind]}", kind, self._versions[kind])
        topic = self._world.shop.app.declarations.topics["ratings"]
        if topic.name in self._world.ledger.topics:
            await self._producer.add(topic, rated, kind, {})

    async def _order(self, order_id: str) -> None:
        shop, rng = self._world.shop, self._rng
        if rng.random() < _GARBAGE:
            topic = rng.choice((shop.orders, shop.notes))
            if topic.name in self._world.ledger.topics:
                self._producer.add_raw(topic, b"%d" % rng.randrange(5), b'{"id":', ())
            return
        order = self.order(order_id, rng)
        self._world.tell(f"{order.id} comes, {order.how}")
        self.orders += 1
        await self._producer.add(shop.orders, order, order.account, {})

    async def rate_now(self) -> None:
        """One more rate, at this moment."""
        await self._rate()
        self._producer.commit()

    async def order_now(self) -> None:
        """Some more orders, at this moment, so that there is work for something to go wrong in."""
        if "orders" in self._world.ledger.topics:
            for _ in range(self._rng.choice((1, 2, 3))):
                self._more += 1
                await self._order(f"m{self._more}")
            self._producer.commit()

    def check(self) -> None:
        """What was sent lies in the log; it is here so that a world without events cannot pass."""
        lying = sum(
            len(self._world.ledger.records.get(TopicPartition("orders", number), ()))
            for number in range(self._world.shape.partitions)
        )
        if lying < self.orders:
            self._world.model.broken.append(f"{self.orders} orders were sent, and {lying} are in the log")
