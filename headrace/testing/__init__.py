"""What tests of a service are written with: the service in this process, without a broker and without waits.

    harness:          the apps on a simulated log, under a clock that the test moves
    assert_fold:      tables are the fold of their events, whatever crashes
    event_sequences:  a hypothesis strategy for events, crashes and bad records; `events` for events alone
    Send, Poison, Crash, CrashPoint, Rebalance, Join, Leave, Outage, Compact, Advance: items of a story

`headrace.testing.kafka_broker` is a real Apache Kafka for those tests that need one.
"""

from headrace.testing.fold import assert_fold
from headrace.testing.harness import Harness, harness
from headrace.testing.items import (
    Advance,
    Compact,
    Crash,
    CrashPoint,
    Join,
    Leave,
    Outage,
    Poison,
    Rebalance,
    Send,
)
from headrace.testing.rows import TableRows
from headrace.testing.service import AppHarness
from headrace.testing.strategies import event_sequences, events
from headrace.testing.virtual_clock import VirtualClock
from headrace.testing.world import NotQuiet, PromiseBroken

__all__ = [
    "Advance",
    "AppHarness",
    "Compact",
    "Crash",
    "CrashPoint",
    "Harness",
    "Join",
    "Leave",
    "NotQuiet",
    "Outage",
    "Poison",
    "PromiseBroken",
    "Rebalance",
    "Send",
    "TableRows",
    "VirtualClock",
    "assert_fold",
    "event_sequences",
    "events",
    "harness",
]
