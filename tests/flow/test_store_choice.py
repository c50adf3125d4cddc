"""The store behind a group is a matter of configuration, and one that was long unused brings nothing back."""

from pathlib import Path

import pytest

import headrace
from headrace import errors
from headrace.clock import SystemClock
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.simulated.log import SimulatedLog
from tests.flow.shop import Bought, Shop, by_key, declare_shop, fold, purchases
from tests.service import quick, running

HOUR_S = 3_600.0
EVENTS = purchases(100, people=20)


class MovedClock(SystemClock):
    """The machine's time, moved."""

    def __init__(self, hours: float) -> None:
        self._moved_s = hours * HOUR_S

    def time(self) -> float:
        """Seconds since the epoch, so many hours away."""
        return super().time() + self._moved_s


def forgetful_shop() -> Shop:
    """A shop in which a purchase of nothing deletes the balance."""
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            if event.cents < 0:
                del shop.balances[event.who]
            else:
                shop.balances[event.who] = shop.balances[event.who].plus(event)

    return shop


async def test_a_group_moves_from_disk_to_memory_and_back_by_configuration(tmp_path: Path) -> None:
    shop, log = forgetful_shop(), SimulatedLog()
    on_disk = quick(store="rocksdb", data=str(tmp_path), instance="one")
    sent: list[Bought] = []
    for turn, settings in enumerate((on_disk, quick(instance="one"), on_disk, quick(), on_disk)):
        more = [Bought(event.who, event.cents + turn) for event in EVENTS]
        async with running(shop.app, log=log, settings=settings) as service:
            assert service.table("balances").rows() == fold(sent)
            await service.send_all(shop.buys, by_key(more))
            await service.until_applied()
            sent += more
            assert service.table("balances").rows() == fold(sent)
        log.cluster.compact("shop.main.changelog")


@pytest.mark.parametrize(("hours", "is_rebuilt"), [(11, False), (13, True), (300, True), (-13, True)])
async def test_rows_deleted_while_a_store_was_unused_for_long_do_not_come_back(
    hours: float, is_rebuilt: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop, log = forgetful_shop(), SimulatedLog()
    on_disk = quick(store="rocksdb", data=str(tmp_path), instance="one")
    async with running(shop.app, log=log, settings=on_disk) as service:
        await service.send_all(shop.buys, by_key(EVENTS))
        await service.until_applied()
    async with running(shop.app, log=log, settings=quick(), clock=MovedClock(min(hours, 1))) as service:
        await service.send_all(shop.buys, by_key([Bought(who, -1) for who in range(10)]))
        await service.until_applied()
    # The log keeps tombstones for a day: of a store that missed them for longer it cannot know.
    log.cluster.compact("shop.main.changelog", purges_tombstones=is_rebuilt)
    async with running(shop.app, log=log, settings=on_disk, clock=MovedClock(hours)) as service:
        assert service.table("balances").rows() == {k: v for k, v in fold(EVENTS).items() if k >= 10}
    assert ("was unused since" in caplog.text) == is_rebuilt


async def test_a_store_that_missed_nothing_is_kept_however_old_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop, log = forgetful_shop(), SimulatedLog()
    on_disk = quick(store="rocksdb", data=str(tmp_path), instance="one")
    async with running(shop.app, log=log, settings=on_disk) as service:
        await service.send_all(shop.buys, by_key(EVENTS))
        await service.until_applied()
    async with running(shop.app, log=log, settings=on_disk, clock=MovedClock(10_000)) as service:
        assert service.table("balances").rows() == fold(EVENTS)
    assert "was unused since" not in caplog.text


@pytest.mark.parametrize(
    ("topic", "sentence"),
    [("buys", "this input was recreated"), ("shop.main.changelog", "the changelog was recreated")],
)
async def test_on_the_embedded_log_a_recreated_topic_is_named(
    topic: str, sentence: str, tmp_path: Path
) -> None:
    shop, path = forgetful_shop(), tmp_path / "log.db"
    on_disk = quick(store="rocksdb", data=str(tmp_path), instance="one")
    async with running(shop.app, log=EmbeddedLog(path), settings=on_disk) as service:
        await service.send_all(shop.buys, by_key(EVENTS))
        await service.until_applied()
    log = EmbeddedLog(path)
    await log.open()
    await log.delete([topic])
    await log.close()
    with pytest.raises(errors.TopicMismatch, match=rf"{sentence}.*topic {topic}, partition 0"):
        async with running(shop.app, log=EmbeddedLog(path), settings=on_disk):
            pass


async def test_a_topic_that_is_deleted_under_a_running_worker_is_named() -> None:
    shop, log = forgetful_shop(), SimulatedLog()
    async with running(shop.app, log=log) as service:
        await service.send_all(shop.buys, by_key(EVENTS))
        await service.until_applied()
        log.cluster.delete("buys")
        failure = await service.failure()
    assert isinstance(failure, errors.TopicMismatch)
    assert "deleted while it was read (topic buys)" in str(failure)
