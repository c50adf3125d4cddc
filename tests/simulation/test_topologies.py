"""Five services in random topologies: no event comes before its causes, and none waits for ever.

Customers go from service to service over HTTP and carry their tokens; no read lacks what it was to contain.
What came before is told by vector clocks that the test keeps itself, in the events' payload and in rows:
it knows nothing of stamps. A failure names its seed and tells its story:
`SIMULATION_SEED=<seed> pytest tests/simulation/test_topologies.py` tells it again.
`HEADRACE_TEST_TOPOLOGIES=5000` lives through so many seeds instead of 300.
"""

import os
from collections.abc import Iterable
from typing import Any

import pytest

from headrace.events.seen import NOTHING_SEEN
from headrace.flow import task
from headrace.flow.admission import Admission
from headrace.flow.causality import TaskSeen
from headrace.flow.takeover import Held, take_over
from headrace.flow.witness import Witness
from headrace.http.consistency import Asked
from headrace.http.waiting import Waits
from headrace.testing import PromiseBroken
from tests.simulation.topology import SHAPES
from tests.simulation.town import Stale, TooEarly
from tests.simulation.townlife import lived

CHOSEN = os.environ.get("SIMULATION_SEED")
COUNT = int(os.environ.get("HEADRACE_TEST_TOPOLOGIES") or 300)
PINNED = (311, 1948, 4600)
"""A worker that died while it wrote its store went on to answer from the rows that the store did not have."""
SEEDS = [int(CHOSEN)] if CHOSEN else sorted({*range(COUNT), *PINNED})
FEW = range(2 * len(SHAPES))
"""Seeds for what has to be shown of the simulation itself: two of each shape."""


def found_out(seeds: Iterable[int], kind: type[PromiseBroken] = TooEarly) -> int:
    """In how many of these an event is handed out too early, or another promise is broken."""
    found = 0
    for seed in seeds:
        try:
            lived(seed)
        except kind:
            found += 1
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_no_event_comes_before_its_causes_and_none_waits_for_ever(seed: int) -> None:
    lived(seed)


# --- what this is worth


def test_the_stories_are_worth_telling() -> None:
    lives = [lived(seed) for seed in FEW]
    assert sum(life.depended for life in lives) > 50 * len(lives)
    assert sum(life.held for life in lives) > len(lives)
    assert sum(life.troubles for life in lives) > 10 * len(lives)
    assert sum(life.orders for life in lives) > len(lives)
    assert sum(life.reads for life in lives) > 3 * len(lives)


def test_a_seed_tells_the_same_story_each_time() -> None:
    for seed in FEW[:4]:
        assert lived(seed).story == lived(seed).story


def test_events_that_are_not_held_back_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    missing_of = Admission._missing_of

    def nothing_missing(self: Admission, *event: Any) -> dict[bytes, int]:
        missing_of(self, *event)
        return {}

    monkeypatch.setattr(Admission, "_missing_of", nothing_missing)
    assert found_out(FEW) > len(FEW) // 2


def test_stamps_that_tell_nothing_of_earlier_senders_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskSeen, "learn", lambda self, *told: None)
    assert found_out(FEW) > len(FEW) // 3


def test_what_was_seen_and_is_forgotten_at_a_restart_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(*task_: Any, **world: Any) -> Held:
        held = await take_over(*task_, **world)
        held.seen = NOTHING_SEEN
        return held

    monkeypatch.setattr(task, "take_over", forgetful)
    assert found_out(FEW) > len(FEW) // 10


def test_routes_that_do_not_stamp_what_they_send_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Witness, "stamp", b"")
    assert found_out(FEW) > len(FEW) // 6


def test_reads_that_do_not_wait_for_their_token_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(self: Waits, asked: Asked, views: object) -> Asked:
        return asked

    monkeypatch.setattr(Waits, "reach", at_once)
    assert found_out(FEW, Stale) > len(FEW) // 10
