"""The comparison judges sums by the events themselves, and marks what is wrong."""

import json
from dataclasses import replace

from bench.cases import CASES, PLAIN
from bench.course import Measurement
from bench.orders import Orders
from bench.report import Results


def measurement(total: int, seconds: float = 2.0) -> Measurement:
    return Measurement(events=1_000, seconds=seconds, cpu_seconds=1.0, total=total)


def test_the_expected_sum_is_that_of_the_orders() -> None:
    values = [json.loads(value) for _, value, _ in Orders(1_000)]
    assert Orders(1_000).expected_sum() == sum(value["qty"] for value in values)
    assert 90 < sum(len(value) for _, value, _ in Orders(1_000)) / 1_000 < 120


def test_fewer_orders_are_the_first_of_more() -> None:
    assert list(Orders(100)) == list(Orders(1_000))[:100]


def test_an_order_is_keyed_by_its_article() -> None:
    assert all(json.loads(value)["sku"].encode() == key for key, value, _ in Orders(100))


def test_a_wrong_sum_in_any_round_is_marked() -> None:
    right = Orders(1_000).expected_sum()
    results = Results()
    results.add(PLAIN, "headrace-kafka", measurement(right))
    results.add(PLAIN, "faust-streaming", measurement(right))
    results.add(PLAIN, "faust-streaming", measurement(right + 1))
    assert results.inexact == ["plain: faust-streaming"]
    _, header, own, peer = results.tables().splitlines()
    assert header.endswith("sum")
    assert own.endswith("exact")
    assert peer.endswith("WRONG")


def test_ratios_are_headraces_median_rate_over_the_others() -> None:
    right = Orders(1_000).expected_sum()
    results = Results()
    for seconds in (1.0, 2.0, 4.0):
        results.add(PLAIN, "headrace-kafka", measurement(right, seconds))
    results.add(PLAIN, "quix-streams", measurement(right, 4.0))
    quix = results.tables().splitlines()[3].split()
    assert "2.00" in quix
    assert "500-500" not in quix
    assert "250-250" in quix


def test_who_did_not_finish_is_said_in_one_line() -> None:
    results = Results(failed={(PLAIN, "kafka-streams"): "javac is not installed\nand more"})
    results.add(PLAIN, "headrace-kafka", measurement(Orders(1_000).expected_sum()))
    assert results.tables().splitlines()[-1] == "kafka-streams: did not finish: javac is not installed"


def test_an_order_of_a_new_article_each_time_is_of_every_article_once() -> None:
    keys = [key for key, _, _ in Orders(10_000, articles=10_000, is_each_new=True)]
    assert len(set(keys)) == 10_000


def test_an_output_too_many_is_as_wrong_as_one_that_is_missing() -> None:
    right = CASES["outputs"].orders(1_000).expected_sum()
    for sent, wrong in (
        (1_000, []),
        (1_001, ["outputs: headrace-kafka"]),
        (None, ["outputs: headrace-kafka"]),
    ):
        results = Results()
        results.add("outputs", "headrace-kafka", replace(measurement(right), outputs=sent))
        assert results.inexact == wrong


def test_a_case_is_held_beside_another_one_in_rate_and_in_cpu() -> None:
    right = Orders(1_000).expected_sum()
    results = Results()
    results.add("one-worker", "headrace-kafka", measurement(right, 2.0))
    results.add("two-workers", "headrace-kafka", replace(measurement(right, 1.0), cpu_seconds=1.25))
    assert "2.00 of the rate, 0.80 (at least 0.85) in CPU" in results.tables()
