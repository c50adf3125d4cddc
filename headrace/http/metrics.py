"""`/metrics` for Prometheus: what the run tells of itself, and what HTTP counts about its requests."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from starlette.types import Send

from headrace.histogram import Histogram
from headrace.http import metric as declared
from headrace.http.metric import Kind, Metric, Sample
from headrace.http.peers.figures import HopFigures
from headrace.http.problems import Problem
from headrace.http.source import ReadSource
from headrace.turns import Turns

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_NOT_INSTALLED = Problem(
    501, "Metrics need the package prometheus-client: install headrace with its extra, headrace[prometheus]."
)


class Meter:
    """Counts answers of one kind by status and by how long they took."""

    __slots__ = ("answers", "read", "table", "times")

    def __init__(self, table: str = "", read: str = "") -> None:
        self.table = table
        """The table that is read; empty: these are no reads."""
        self.read = read
        """How it is read: `key` or `scan`."""
        self.answers: dict[int, int] = {}
        """Number of answers by status."""
        self.times = Histogram()

    def count(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.answers[status] = self.answers.get(status, 0) + 1
        self.times.add(seconds)


class MetricsPage:
    """`GET /metrics`, in Prometheus' text format; without prometheus-client a problem that says so."""

    __slots__ = ("_render",)

    def __init__(self, source: ReadSource, meters: Iterable[Meter], hops: HopFigures) -> None:
        self._render = _renderer(source, list(meters), hops)

    async def respond(self, send: Send) -> int:
        """Answer with all figures as of now; the result is the status."""
        if self._render is None:
            return await _NOT_INSTALLED.send(send)
        body = await _in_slices(self._render())
        headers = [
            (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return 200


async def _in_slices(parts: Iterator[bytes]) -> bytes:
    """All parts together; other work of the loop gets its turn in between."""
    done = []
    turns = Turns()
    for part in parts:
        done.append(part)
        if turns.is_due:
            await turns.give()
    return b"".join(done)


def request_samples(meters: Iterable[Meter], *, waiting: int) -> Iterator[Sample]:
    """What these meters have counted: all of it together, and the reads by table; and how many wait."""
    answers: dict[int, int] = {}
    times = Histogram()
    for meter in meters:
        times.merge(meter.times)
        for status, number in sorted(meter.answers.items()):
            answers[status] = answers.get(status, 0) + number
            if meter.table:
                yield Sample(declared.READS, (meter.table, meter.read, str(status)), number)
        if meter.table:
            yield Sample(declared.READ_TIME, (meter.table, meter.read), meter.times)
    for status, number in sorted(answers.items()):
        yield Sample(declared.REQUESTS, (str(status),), number)
    yield Sample(declared.REQUEST_TIME, (), times)
    yield Sample(declared.READS_WAITING, (), waiting)


def _renderer(
    source: ReadSource, meters: list[Meter], hops: HopFigures
) -> Callable[[], Iterator[bytes]] | None:
    """Renders the page metric by metric; None without prometheus-client."""
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
        from prometheus_client.registry import Collector
    except ImportError:
        return None

    class One(Collector):
        def __init__(self, family: "Family") -> None:
            self._family = family

        def collect(self) -> Iterable["Family"]:
            return (self._family,)

    # Memory, CPU and open files of the process, under the names that every Prometheus client gives them.
    process = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=process)

    def render() -> Iterator[bytes]:
        # All samples are of one turn of the loop; only writing them down may take several.
        samples = [
            *source.figures(),
            *request_samples(meters, waiting=len(source.waits.room)),
            *hops.samples(),
        ]
        for family in _families(samples):
            yield generate_latest(One(family))
        yield generate_latest(process)

    return render


def _families(samples: Iterable[Sample]) -> Iterator["Family"]:
    by_metric: dict[Metric, list[Sample]] = {}
    for sample in samples:
        by_metric.setdefault(sample.metric, []).append(sample)
    for metric, values in by_metric.items():
        family = _family(metric)
        for sample in values:
            _add(family, sample)
        yield family


def _family(metric: Metric) -> "Family":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    if metric.kind is Kind.HISTOGRAM:
        return HistogramMetricFamily(metric.name, metric.sentence, labels=metric.labels)
    if metric.kind is Kind.COUNTER:
        return CounterMetricFamily(metric.name, metric.sentence, labels=metric.labels)
    return GaugeMetricFamily(metric.name, metric.sentence, labels=metric.labels)


def _add(family: "Family", sample: Sample) -> None:
    from prometheus_client.core import HistogramMetricFamily

    if isinstance(family, HistogramMetricFamily):
        assert isinstance(sample.value, Histogram)
        buckets = [(bound, float(number)) for bound, number in sample.value.cumulative()]
        family.add_metric(sample.labels, buckets=buckets, sum_value=sample.value.seconds)
    else:
        assert not isinstance(sample.value, Histogram)
        family.add_metric(sample.labels, sample.value)
