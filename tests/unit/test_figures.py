"""Metrics: every declared one is shown by some part of a worker, and each says what its declaration says."""

from headrace.bridge.shadow.findings import Findings
from headrace.bridge.tally import Tally
from headrace.events.position import Position, TopicPartition
from headrace.figures import run_samples
from headrace.flow.figures import FlowFigures
from headrace.flow.outgate import Outgate
from headrace.histogram import Histogram
from headrace.http.metric import (
    COMMIT,
    EVENTS,
    FOLLOWED_BEHIND,
    FOLLOWED_PARTITIONS,
    HELD,
    HELD_SECONDS,
    LAG,
    METRICS,
    PARTITIONS,
    RESTORE_LEFT,
    RESTORED,
    Kind,
)
from headrace.http.metrics import Meter, request_samples
from headrace.http.peers.figures import HopFigures, HopKind
from headrace.log.simulated.log import SimulatedLog
from headrace.tables.globalview import GlobalView
from headrace.tables.memory import MemoryEngine
from headrace.tables.view import HeldInput, PartitionView, ViewState

WORKER = {"app": "loyalty", "instance": "loyalty-0", "state": "running", "version": "1"}
NOW_S = 1_000.0
COUPONS = TopicPartition("promotions.events", 0)
BASKETS = TopicPartition("checkout.events", 0)


def busy_worker() -> tuple[FlowFigures, list[PartitionView], Outgate]:
    flow = FlowFigures(units=4, failures={"Fenced": 2})
    flow.agents["main", "earn"].events = 41
    flow.commit_time.add(0.003)
    serving, restoring = PartitionView("main", 0), PartitionView("main", 1)
    serving.serve(MemoryEngine().open("main", 0), Position({BASKETS: 90}))
    serving.input_ends[BASKETS] = serving.input_ends[COUPONS] = 100
    serving.held = {COUPONS: HeldInput(NOW_S - 12.5, 7, {BASKETS: 95})}
    restoring.restore_start, restoring.restore_offset, restoring.restore_end = 10, 35, 110
    gate = Outgate("loyalty", "loyalty-0", SimulatedLog(), {}, record_bytes_max=1_000)
    return flow, [serving, restoring], gate


def half_restored_table() -> GlobalView:
    followed = GlobalView("products", ["product.events"], 2)
    followed.partitions[1].serve(MemoryEngine().open("products.followed", 1), Position())
    followed.shown[0], followed.ends[0] = 30, 42
    return followed


def values() -> dict[tuple[str, tuple[str, ...]], float | Histogram]:
    flow, views, gate = busy_worker()
    read = Meter("balances", "key")
    read.count(200, 0.001)
    followed = [half_restored_table()]
    samples = [
        *run_samples(flow, views, gate, WORKER, followed, now_s=NOW_S),
        *request_samples([read], waiting=0),
    ]
    samples += Findings("balances").samples()
    tally = Tally()
    tally.add()
    samples += tally.samples()
    hops = HopFigures()
    hops.failed(HopKind.READ, "TimeoutError")
    return {(sample.metric.name, sample.labels): sample.value for sample in (*samples, *hops.samples())}


def test_every_declared_metric_is_shown_and_no_other() -> None:
    assert {name for name, _ in values()} == {metric.name for metric in METRICS}


def test_a_metric_is_named_as_prometheus_names_its_kind() -> None:
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), metric.name
        assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith(f"_{metric.unit}"), metric.name
        assert metric.sentence.endswith("."), metric.name


def test_every_sample_has_the_labels_and_the_kind_of_its_declaration() -> None:
    flow, views, gate = busy_worker()
    for sample in run_samples(flow, views, gate, WORKER, now_s=NOW_S):
        assert len(sample.labels) == len(sample.metric.labels), sample.metric.name
        assert isinstance(sample.value, Histogram) == (sample.metric.kind is Kind.HISTOGRAM)


def test_events_lag_restore_and_states_are_told_by_where_they_are() -> None:
    shown = values()
    assert shown[EVENTS.name, ("main", "earn")] == 41
    assert shown[LAG.name, ("main", "checkout.events", "0")] == 10
    assert shown[RESTORED.name, ("main", "1")] == 0.25
    assert shown[RESTORE_LEFT.name, ("main", "1")] == 75
    assert shown[PARTITIONS.name, ("main", ViewState.SERVING.value)] == 1
    assert shown[PARTITIONS.name, ("main", ViewState.CLOSED.value)] == 0


def test_what_is_followed_of_global_tables_is_told_apart_from_what_is_owned() -> None:
    shown = values()
    assert shown[FOLLOWED_PARTITIONS.name, ("products", ViewState.SERVING.value)] == 1
    assert shown[FOLLOWED_PARTITIONS.name, ("products", ViewState.RESTORING.value)] == 1
    assert shown[FOLLOWED_BEHIND.name, ("products", "0")] == 12
    assert (PARTITIONS.name, ("products", ViewState.SERVING.value)) not in shown


def test_a_histogram_counts_up_to_each_bound() -> None:
    commits = values()[COMMIT.name, ()]
    assert isinstance(commits, Histogram)
    reached = dict(commits.cumulative())
    assert (reached["0.0025"], reached["0.005"], reached["+Inf"]) == (0, 1, 1)
    assert commits.seconds == 0.003


def test_an_input_that_waits_is_told_with_how_long_and_one_that_does_not_is_not_left_out() -> None:
    shown = values()
    assert shown[HELD.name, ("main", "promotions.events", "0")] == 1
    assert shown[HELD_SECONDS.name, ("main", "promotions.events", "0")] == 12.5
    assert shown[HELD.name, ("main", "checkout.events", "0")] == 0
    assert shown[HELD_SECONDS.name, ("main", "checkout.events", "0")] == 0
