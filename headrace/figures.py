"""What a run tells of itself: its counters and the state of its partitions as samples for `/metrics`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from headrace.flow.figures import FlowFigures, RequestFigures
from headrace.flow.outgate import Outgate
from headrace.histogram import Histogram
from headrace.http import metric as declared
from headrace.http.metric import Metric, Sample
from headrace.tables.globalview import GlobalView
from headrace.tables.view import PartitionView, ViewState


def run_samples(
    flow: FlowFigures,
    views: Sequence[PartitionView],
    gate: Outgate | None,
    worker: Mapping[str, str],
    followed: Sequence[GlobalView] = (),
    *,
    now_s: float,
) -> Iterator[Sample]:
    """Every sample of a run as of now; `worker` has the labels that say who it is."""
    yield Sample(declared.WORKER, tuple(worker[label] for label in declared.WORKER.labels), 1)
    yield from _flow_samples(flow)
    yield from _state_samples(declared.PARTITIONS, views)
    for view in views:
        yield from _partition_samples(view)
        yield from _held_samples(view, now_s)
    yield from _followed_samples(followed)
    if gate is not None:
        yield from _sending_samples(gate, flow.requests)


def _sending_samples(gate: Outgate, keyed: RequestFigures) -> Iterator[Sample]:
    commits = Histogram()
    commits.merge(gate.commit_time)
    commits.merge(keyed.commit_time)
    yield Sample(declared.SENDINGS, (), gate.transactions + keyed.transactions)
    yield Sample(declared.SENDING_EVENTS, (), gate.events + sum(keyed.sent.values()))
    yield Sample(declared.SENDING_COMMIT, (), commits)
    yield Sample(declared.REQUESTS_RECORDED, (), keyed.recorded)
    yield Sample(declared.REQUESTS_REPEATED, (), keyed.repeated)
    yield Sample(declared.REQUESTS_REFUSED, (), keyed.refused)


def _flow_samples(flow: FlowFigures) -> Iterator[Sample]:
    for agent, figures in sorted(flow.agents.items()):
        yield Sample(declared.EVENTS, agent, figures.events)
        yield Sample(declared.EVENTS_SENT, agent, figures.sent)
        yield Sample(declared.DEAD_LETTERS, agent, figures.dead_letters)
        yield Sample(declared.RETRIES, agent, figures.retries)
    yield Sample(declared.UNITS, (), flow.units)
    yield Sample(declared.ROWS_WRITTEN, (), flow.rows)
    yield Sample(declared.COMMIT, (), flow.commit_time)
    yield Sample(declared.TAKEOVERS, (), flow.takeovers)
    yield Sample(declared.REBALANCES, (), flow.rebalances)
    for error, number in sorted(flow.failures.items()):
        yield Sample(declared.TASK_FAILURES, (error,), number)


def _state_samples(metric: Metric, views: Sequence[PartitionView]) -> Iterator[Sample]:
    """Partitions by state; a state that none is in is 0, so that an alert need not tell it from a gap."""
    found = Counter((view.group, view.state) for view in views)
    for group in sorted({view.group for view in views}):
        for state in ViewState:
            yield Sample(metric, (group, state.value), found[group, state])


def _followed_samples(followed: Sequence[GlobalView]) -> Iterator[Sample]:
    for each in followed:
        yield from _state_samples(declared.FOLLOWED_PARTITIONS, each.partitions)
        for number, behind in each.behind().items():
            yield Sample(declared.FOLLOWED_BEHIND, (each.group, str(number)), behind)


def _held_samples(view: PartitionView, now_s: float) -> Iterator[Sample]:
    for source in sorted(view.input_ends):
        held = view.held.get(source)
        labels = (view.group, source.topic, str(source.partition))
        yield Sample(declared.HELD, labels, 0 if held is None else 1)
        yield Sample(declared.HELD_SECONDS, labels, 0.0 if held is None else max(0.0, now_s - held.since))


def _partition_samples(view: PartitionView) -> Iterator[Sample]:
    place = (view.group, str(view.partition))
    for source, end in sorted(view.input_ends.items()):
        if source in view.position:
            labels = (view.group, source.topic, str(source.partition))
            yield Sample(declared.LAG, labels, max(0, end - view.position[source]))
    if view.state is ViewState.RESTORING:
        size = view.restore_end - view.restore_start
        left = max(0, view.restore_end - view.restore_offset)
        # Before the end of the changelog is known nothing of it has been read.
        yield Sample(declared.RESTORED, place, 1 - left / size if size > 0 else 0.0)
        yield Sample(declared.RESTORE_LEFT, place, left)
    elif view.state is ViewState.SERVING:
        yield Sample(declared.STORE_BYTES, place, view.size_bytes())
        yield Sample(declared.STORE_ROWS, place, view.rows_estimate())
