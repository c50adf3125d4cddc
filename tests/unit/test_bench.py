"""The comparison judges sums by the events themselves, and marks what is wrong."""

import json

from bench.contenders import Measurement
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
    results.add("headrace-kafka", measurement(right))
    results.add("faust-streaming", measurement(right))
    results.add("faust-streaming", measurement(right + 1))
    assert results.inexact == ["faust-streaming"]
    header, own, peer = results.table().splitlines()
    assert header.endswith("sum")
    assert own.endswith("exact")
    assert peer.endswith("WRONG")


def test_ratios_are_headraces_median_rate_over_the_others() -> None:
    right = Orders(1_000).expected_sum()
    results = Results()
    for seconds in (1.0, 2.0, 4.0):
        results.add("headrace-kafka", measurement(right, seconds))
    results.add("quix-streams", measurement(right, 4.0))
    quix = results.table().splitlines()[2].split()
    assert "2.00" in quix
    assert "500-500" not in quix
    assert "250-250" in quix


def test_who_did_not_finish_is_said_in_one_line() -> None:
    results = Results(failed={"kafka-streams": "javac is not installed\nand more"})
    assert results.table().splitlines()[-1] == "kafka-streams: did not finish: javac is not installed"
