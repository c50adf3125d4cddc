"""Two thousand ways to fail between a writer and its broker: none torn, none lost, no aborted read.

`HEADRACE_TEST_WIRE=2000` runs so many cases, `HEADRACE_TEST_WIRE_SEED=17` that one alone;
`-o log_cli=true -o log_cli_level=INFO` shows what was met.
"""

import logging
import os

import pytest

from headrace.testing.kafka_broker import KafkaBroker
from tests.wire.campaign import run_campaign, struck
from tests.wire.script import Fault

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.kafka

CASES = int(os.environ.get("HEADRACE_TEST_WIRE", "100"))
SEED = os.environ.get("HEADRACE_TEST_WIRE_SEED")


@pytest.mark.timeout(60 + 2 * CASES)
async def test_whatever_fails_on_the_way_every_unit_is_read_once_and_whole(kafka_broker: KafkaBroker) -> None:
    seeds = [int(SEED)] if SEED is not None else range(CASES)
    tally = await run_campaign(kafka_broker.address, seeds, "wire")
    logger.info("%s", tally)
    replay = "HEADRACE_TEST_WIRE_SEED=<seed> runs one of them again:\n"
    assert not tally.failures, replay + "\n".join(tally.failures)
    if len(seeds) >= 100:
        assert all(struck(tally, fault) for fault in Fault), "every kind of fault must have happened"
