"""The year at the tills while services are stopped and killed: the same verdict as in peace."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from app.client import NoAnswer
from app.grocery import load_year
from app.replay import Addresses, Progress, Replay
from app.truth import load_truth
from app.verdict import Answers, Verdict, compare
from headrace.testing.kafka_broker import KafkaBroker
from tests.process.workers import Worker, breath, running
from tests.reference.households import part_of, redeeming, truth_of

REDEMPTIONS_BETWEEN = 30
"""So many are rung up from one strike to the next, of about 500; more come in while services stand still."""

Strike = Callable[[], Awaitable[None]]


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_the_verdict_is_exact_although_services_stand_still_and_die_while_the_tills_ring(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    log = {"HEADRACE_LOG": f"kafka://{own_broker.address}"}
    checkout, promotions = (
        Worker(f"app.{name}", f"{name}-1", tmp_path, log) for name in ("checkout", "promotions")
    )
    # In small units loyalty takes long to catch up with what it missed. Without stamps it would then judge
    # many redemptions before their baskets.
    loyalty = Worker("app.loyalty", "loyalty-1", tmp_path, {**log, "HEADRACE_UNIT_RECORDS_MAX": "100"})
    crew = (checkout, promotions, loyalty)
    strikes = Strikes(
        [
            lambda: stop(loyalty, seconds=2.0),  # the feed pours in meanwhile
            lambda: kill(checkout),
            lambda: stop(promotions, loyalty),
            lambda: kill(promotions),
            lambda: stop(checkout),
            lambda: kill(loyalty, loses_disk=True),
        ]
    )
    whole = await asyncio.to_thread(load_year)
    households = every_second(redeeming(whole))
    year = part_of(whole, households)
    async with running(*crew):
        addresses = Addresses(
            checkout=checkout.address, promotions=promotions.address, loyalty=loyalty.address
        )
        try:
            await asyncio.to_thread(Replay(year, addresses).run, strikes.watch)
        except NoAnswer as error:
            error.add_note("\n\n".join(f"{worker.instance}:\n{worker.tail()}" for worker in crew))
            raise
        assert not strikes.left, "the tills were faster than their fate"
        verdict = await verdict_of(addresses, households)
        assert verdict.is_exact, verdict
        for worker in crew:
            assert await worker.terminate() == 0, worker.tail()


def every_second(households: frozenset[int]) -> frozenset[int]:
    """Half of these, always the same."""
    return frozenset(sorted(households)[::2])


class Strikes:
    """What happens to the services, one after the other, while the redemptions come in."""

    def __init__(self, strikes: Sequence[Strike]) -> None:
        self.left = list(strikes)
        self._loop = asyncio.get_running_loop()
        self._struck_at = 0

    def watch(self, progress: Progress) -> None:
        """Strike when it is time; the tills ring on meanwhile, in threads of their own."""
        if self.left and progress.redemptions >= self._struck_at + REDEMPTIONS_BETWEEN:
            self._struck_at = progress.redemptions
            asyncio.run_coroutine_threadsafe(self._strike(self.left.pop(0)), self._loop).result()

    @staticmethod
    async def _strike(strike: Strike) -> None:
        await strike()


async def stop(*workers: Worker, seconds: float = 1.0) -> None:
    """SIGSTOP, and SIGCONT after a while."""
    for worker in workers:
        worker.pause()
    await breath(seconds)
    for worker in workers:
        worker.resume()


async def kill(worker: Worker, *, loses_disk: bool = False) -> None:
    """kill -9, and a new start; returns when it serves again."""
    await worker.kill()
    if loses_disk:
        worker.lose_disk()
    await worker.start()
    await worker.until_ready()


async def verdict_of(addresses: Addresses, households: frozenset[int]) -> Verdict:
    """The verdict on these households."""
    truth = truth_of(await asyncio.to_thread(load_truth), households)
    answers = await asyncio.to_thread(Answers.read, addresses)
    return compare(truth, answers)
