"""Figures for Prometheus: the worker's own, and what the HTTP layer counts about its requests."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from starlette.types import Send

from headrace.http.problems import Problem
from headrace.http.source import ReadSource

if TYPE_CHECKING:
    from prometheus_client import Metric

_BOUNDS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

_NOT_INSTALLED = Problem(
    501, "Metrics need the package prometheus-client: install headrace with its extra, headrace[prometheus]."
)


class Meter:
    """Counts answers by status and by how long they took; as cheap as two additions."""

    __slots__ = ("answers", "buckets", "seconds")

    def __init__(self) -> None:
        self.answers: dict[int, int] = {}
        """Number of answers by status."""
        self.buckets = [0] * (len(_BOUNDS_S) + 1)
        """Number of answers by the bound they stayed under; the last one has none."""
        self.seconds = 0.0
        """Time of all answers together."""

    def count(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.answers[status] = self.answers.get(status, 0) + 1
        self.buckets[bisect_left(_BOUNDS_S, seconds)] += 1
        self.seconds += seconds


class MetricsPage:
    """`GET /metrics`, in Prometheus' text format; without prometheus-client a problem that says so."""

    __slots__ = ("_render",)

    def __init__(self, source: ReadSource, meter: Meter) -> None:
        self._render = _renderer(source, meter)

    async def respond(self, send: Send) -> int:
        """Answer with all figures as of now; the result is the status."""
        if self._render is None:
            return await _NOT_INSTALLED.send(send)
        body = self._render()
        headers = [
            (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return 200


def _renderer(source: ReadSource, meter: Meter) -> Callable[[], bytes] | None:
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.registry import Collector
    except ImportError:
        return None

    class Figures(Collector):
        def collect(self) -> Iterator["Metric"]:
            yield from _worker_figures(source)
            yield from _request_figures(meter)

        def describe(self) -> Iterator["Metric"]:
            # The names are known only while it runs; an empty answer keeps the registry from collecting.
            return iter(())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures())
    return lambda: generate_latest(registry)


def _worker_figures(source: ReadSource) -> Iterator["Metric"]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, value in sorted(source.figures().items()):
        family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        yield family(name, f"{name} of this worker", value=value)


def _request_figures(meter: Meter) -> Iterator["Metric"]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    answers = CounterMetricFamily("headrace_http_requests", "HTTP answers by status", labels=["status"])
    for status, number in sorted(meter.answers.items()):
        answers.add_metric([str(status)], number)
    yield answers
    reached, buckets = 0, []
    for bound, number in zip((*map(str, _BOUNDS_S), "+Inf"), meter.buckets, strict=True):
        reached += number
        buckets.append((bound, float(reached)))
    yield HistogramMetricFamily(
        "headrace_http_request_seconds",
        "Time from request to answer",
        buckets=buckets,
        sum_value=meter.seconds,
    )
