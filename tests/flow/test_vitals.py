"""What the parts of a run show of themselves: who is stuck, who is only slow, and what recovers alone."""

import asyncio
from pathlib import Path

import headrace
from headrace.log.simulated.log import SimulatedLog
from headrace.runtime import Runtime
from headrace.vitals import Kind, Trouble
from headrace.watchdog import Watch
from tests.flow.shop import by_key, fold, open_shop, purchases
from tests.service import Service, quick, running

BOUNDS_S = {**dict.fromkeys(Kind, 10.0), Kind.HANDLER: 0.0}


def passed(runtime: Runtime, seconds: int, handler_s: float = 0.0) -> Trouble | None:
    """What a watch finds that looks at a run every second in which nothing of it moves."""
    watch = Watch(runtime.vitals, {**BOUNDS_S, Kind.HANDLER: handler_s}, tick_s=1.0)
    found = (watch.look(float(second)) for second in range(seconds))
    return next((trouble for trouble in found if trouble is not None), None)


async def test_a_handler_that_awaits_is_let_be_unless_its_time_is_bounded() -> None:
    app = headrace.App("patient")
    told: headrace.Topic[str, bytes] = app.topic("told", key_type=str, value_type=bytes, partitions=1)
    counts: headrace.Table[str, int] = app.Table("counts", key_type=str, value_type=int, default=int)
    may_go, has_begun = asyncio.Event(), asyncio.Event()

    @app.agent(told)
    async def wait(events: headrace.Stream[bytes]) -> None:
        async for delivery in events.events():
            has_begun.set()
            await may_go.wait()
            counts[delivery.key] += 1

    async with running(app, log=SimulatedLog()) as service:
        assert passed(service.runtime, 100_000, handler_s=30.0) is None
        await service.send(told, b"", key="a")
        await has_begun.wait()
        assert passed(service.runtime, 100_000) is None
        trouble = passed(service.runtime, 40, handler_s=30.0)
        assert trouble is not None
        assert trouble.kind is Kind.HANDLER
        assert "task main/0" in trouble.what
        may_go.set()
        await service.until_applied()
        assert passed(service.runtime, 100_000, handler_s=30.0) is None
    assert service.runtime.vitals.all == ()


async def test_a_reader_whose_reading_ahead_was_cancelled_is_opened_again_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    shop = open_shop()
    runtime = shop.app.current = Runtime(
        shop.app.declarations, quick(log=f"embedded://{tmp_path}/log.db", data=str(tmp_path))
    )
    service = Service(shop.app, runtime, runtime._log)
    await service.until_ready()
    events = purchases(40)
    await service.send_all(shop.buys, by_key(events[:20]))
    await service.until_applied()
    takeovers = runtime.figures_of_flow.takeovers
    for task in asyncio.all_tasks():
        if task.get_name() == "headrace-embedded-reader":
            task.cancel()
    await service.until(lambda: runtime.figures_of_flow.takeovers >= takeovers + len(runtime.views()))
    await service.send_all(shop.buys, by_key(events[20:]))
    await service.until_applied()
    assert service.table("balances").rows() == fold(events)
    await service.stop()
    # The loop is watched by the process alone, and nothing else is left behind.
    assert runtime.vitals.all == ()
