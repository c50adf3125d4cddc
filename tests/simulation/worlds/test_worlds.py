"""Whatever goes wrong, tables are the fold of the recorded order of hand-out, and outputs come once.

A seed draws an app, its workers, and what goes wrong; the production code runs on a log, a disk and a
clock of the simulation. `SIMULATION_SEED=<seed> pytest tests/simulation/worlds` lives through one world
again; `make sim` through 10,000.
"""

import os

import pytest

from tests.simulation.worlds.live import lived

CHOSEN = os.environ.get("SIMULATION_SEED")
COUNT = int(os.environ.get("HEADRACE_TEST_WORLDS") or 500)
BLOCK = 25
"""Seeds of one test case: pytest's own bookkeeping would cost as much as a small world."""
SEEDS = [[int(CHOSEN)]] if CHOSEN else [[*range(at, min(at + BLOCK, COUNT))] for at in range(0, COUNT, BLOCK)]


@pytest.mark.parametrize("seeds", SEEDS, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_whatever_goes_wrong_tables_are_the_fold_and_outputs_come_once(seeds: list[int]) -> None:
    for seed in seeds:
        lived(seed)


def test_a_seed_tells_the_same_story_each_time() -> None:
    for seed in range(20):
        assert lived(seed).trace == lived(seed).trace
