"""A log that is away while a worker starts: the worker asks again, and goes on by itself."""

from collections.abc import Mapping, Sequence

import pytest

import headrace
from headrace.errors import Unavailable
from headrace.log.port import TopicInfo, TopicSpec
from headrace.log.simulated.log import SimulatedLog
from tests.flow.shop import by_key, fold, open_shop, purchases
from tests.service import running


class LeavingLog(SimulatedLog):
    """Does not answer some of the questions that are asked once it is open."""

    def __init__(self, silent: range) -> None:
        super().__init__()
        self._silent = silent
        self.asked = 0

    async def _answer(self) -> None:
        self.asked += 1
        if self.asked - 1 in self._silent:
            raise Unavailable("the broker is away")

    async def provision(self, specs: Sequence[TopicSpec]) -> Mapping[str, TopicInfo]:
        await self._answer()
        return await super().provision(specs)

    async def describe(self, names: Sequence[str]) -> Mapping[str, TopicInfo]:
        await self._answer()
        return await super().describe(names)

    async def record_limits(self, names: Sequence[str]) -> Mapping[str, int]:
        await self._answer()
        return await super().record_limits(names)


@pytest.mark.parametrize("answered", range(4))
async def test_a_log_that_goes_away_while_topics_are_created_is_waited_for(answered: int) -> None:
    shop, log = open_shop(), LeavingLog(range(answered, answered + 3))
    events = purchases(20)
    async with running(shop.app, log=log) as service:
        assert log.asked > answered + 3
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.table("balances").rows() == fold(events)


async def test_what_asking_again_cannot_cure_ends_the_worker_at_once() -> None:
    shop, log = open_shop(partitions=2), LeavingLog(range(0))
    await SimulatedLog(log.cluster).provision([TopicSpec(name="buys", partitions=3)])
    with pytest.raises(headrace.errors.TopicMismatch):
        async with running(shop.app, log=log):
            pass
    assert log.asked == 1
