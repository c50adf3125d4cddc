"""The campaign must be able to fail: a writer with a known hole is found by it."""

import itertools
from contextlib import suppress

import pytest

from headrace.errors import CommitUnknown
from headrace.log.kafka.coordinator import Coordinator
from headrace.testing.kafka_broker import KafkaBroker
from tests.wire.campaign import run_campaign
from tests.wire.frames import Api
from tests.wire.plans import plan_of
from tests.wire.script import Fault, Point

pytestmark = pytest.mark.kafka

CASES = 2
_commit = Coordinator.commit


async def take_silence_for_success(coordinator: Coordinator) -> None:
    with suppress(CommitUnknown):
        await _commit(coordinator)


def loses_the_last_end(seed: int) -> bool:
    """Whether the broker never sees the last EndTxn of this case, which has one task and no other fault."""
    plan = plan_of(seed)
    lost = {rule.at for rule in plan.rules if rule.fault in (Fault.CUT_REQUEST, Fault.SWALLOW_REQUESTS)}
    is_plain = len(plan.tasks) == len(plan.rules) == 1 and not plan.rivals
    return is_plain and Point(Api.END_TXN, len(plan.tasks[0])) in lost


async def test_a_writer_that_takes_silence_for_success_is_found(
    kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = list(itertools.islice(filter(loses_the_last_end, itertools.count()), CASES))
    assert not (await run_campaign(kafka_broker.address, seeds, "control")).failures
    monkeypatch.setattr(Coordinator, "commit", take_silence_for_success)
    failures = (await run_campaign(kafka_broker.address, seeds, "control")).failures
    assert len(failures) == CASES
    assert all(failure.startswith("Torn") for failure in failures)
