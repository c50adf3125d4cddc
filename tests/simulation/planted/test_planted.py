"""The simulation is worth what it finds: bugs planted in a copy of the product are found, each by its seed.

`make planted` looks for each of them anew, from seed 0 on.
"""

import pytest

import tests.simulation.townlife
import tests.simulation.worlds.live  # noqa: F401  (loaded once: each hunt is a fork, which imports its copy only)
from tests.simulation.planted.bugs import BUGS, Bug
from tests.simulation.planted.hunt import hunting


def test_there_are_twenty_and_each_has_a_name() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found_by_its_seed(bug: Bug) -> None:
    with hunting(bug, [bug.seed]) as hunt:
        found = hunt.found()
    assert found.seed == bug.seed, f"{bug.what} {found.complaint}"
