"""Seeded lives of a service: whatever strikes, rows are the fold of the log and outputs are sent once.

A failure names its seed: `SIMULATION_SEED=<seed> pytest tests/simulation` tells the same story again.
"""

import os

import msgspec
import pytest

from headrace import TopicPartition
from headrace.testing import Harness, harness
from headrace.testing.fold import check_model
from tests.simulation.bank import Bank, archive_of, balance_of, open_bank, seen_of
from tests.simulation.stories import ACCOUNTS, tell

STEPS = 80
CHOSEN = os.environ.get("SIMULATION_SEED")
SEEDS = [int(CHOSEN)] if CHOSEN else list(range(16))


async def live(h: Harness, bank: Bank, seed: int, *, retention: bool = False) -> None:
    """Live through the story of a seed; the harness checks what must always hold after each step."""
    story = tell(seed, steps=STEPS)
    cut = len(story) // 4 or 1
    for start in range(0, len(story), cut):
        await h.run(story[start : start + cut])
        if retention:
            forget_what_was_handled(h, bank)
    await h.check()
    check_model(h, bank.balances, balance_of)
    check_model(h, bank.movements_seen, seen_of)
    check_model(h, bank.archive, archive_of)


def forget_what_was_handled(h: Harness, bank: Bank) -> None:
    """Let retention take from the inputs what every task has handled."""
    for worker in h.workers:
        for view in worker.views():
            for place, offset in view.position.items():
                owners = [v for w in h.workers for v in w.views() if place in v.position]
                h.log.trim(place, min(offset, *(owner.position[place] for owner in owners)))


@pytest.mark.parametrize("seed", SEEDS)
async def test_rows_are_the_fold_of_the_log_whatever_strikes(seed: int) -> None:
    bank = open_bank()
    settings = msgspec.structs.replace(bank.app.settings_in_code(), unit_records_max=1 + seed % 5)
    async with harness(bank.app, key="account", settings=settings) as h:
        await live(h, bank, seed)


@pytest.mark.parametrize("seed", SEEDS[:4])
async def test_inputs_may_forget_what_was_handled(seed: int) -> None:
    bank = open_bank()
    async with harness(bank.app, key="account") as h:
        await live(h, bank, seed, retention=True)
        starts = [h.log.range(TopicPartition("movements", number)).start for number in range(3)]
        assert all(starts)


async def test_the_stories_are_worth_telling() -> None:
    bank = open_bank()
    async with harness(bank.app, key="account") as h:
        await h.run(tell(1, steps=STEPS))
        assert sum(worker.lives for worker in h.workers) > 10
        assert len(h.sent(bank.notes)) > 20
        assert len(h.table(bank.balances)) > ACCOUNTS // 2
        assert {letter.error for letter in h.dead_letters()} == {"DecodeError", "ValueError"}
