"""The same events folded once more, undisturbed: what tables and outputs must be."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from headrace.app import App
from headrace.errors import DecodeError
from headrace.events.envelope import Headers, decode_envelope
from headrace.events.position import TopicPartition
from headrace.flow.deadletter import replay_name
from headrace.flow.group import Group, changelog_name
from headrace.log.port import Chunk, Outgoing
from headrace.settings import Settings
from headrace.tables.globalview import GlobalView
from headrace.tables.memory import MemoryEngine
from headrace.tables.view import PartitionView, ViewState
from headrace.testing.disk import Disk
from headrace.testing.journal import Journal, Record, Run, TaskHistory, chunk_of
from headrace.testing.link import Inputs, Link, LinkedLog, LinkedReader
from headrace.testing.lookups import ToldView
from headrace.testing.virtual_clock import VirtualClock
from headrace.testing.worker import Worker
from headrace.testing.world import PromiseBroken, World

_CHANGING = ("headrace-dead-at", "headrace-dead-reason")
"""Headers that differ between two runs of one story."""
_SHOWN_MAX = 5


async def check_refold(app: App, journal: Journal, settings: Settings) -> None:
    """Hold an app's rows and outputs to what its agents make of the same events. Raises: PromiseBroken."""
    histories = _histories(app, journal)
    again = await _refolded(app, journal, histories, settings)
    broken: list[str] = []
    for place, history in histories.items():
        broken += _differences(app, place, history, again.history(place))
    if broken:
        raise PromiseBroken("; ".join(broken))


def _histories(app: App, journal: Journal) -> dict[TopicPartition, TaskHistory]:
    groups = dict.fromkeys(agent.group for agent in app.declarations.agents)
    changelogs = [changelog_name(app.declarations.app_id, group) for group in groups]
    begun = ((place, history) for place, history in journal.tasks.items() if history.unit)
    return {place: history for place, history in begun if place.topic in changelogs}


async def _refolded(
    app: App, journal: Journal, histories: Mapping[TopicPartition, TaskHistory], settings: Settings
) -> Journal:
    """A journal of the app's agents alone, at work on what the histories say they were handed."""
    again, clock = Journal(), VirtualClock()
    for topic in journal.topics.values():
        again.provision([replace(topic.spec, partitions=topic.info.partitions)])
    scripts: dict[Inputs, list[Run]] = {}
    starts: dict[TopicPartition, int] = {}
    for (_, number), history in histories.items():
        places = {TopicPartition(name, number): start for name, start in history.starts.items()}
        scripts[Inputs.of(places)] = history.runs
        for place, start in places.items():
            # Its records come from the journal itself; here it only says where it begins and ends.
            copied = again.partition(place)
            copied.start = starts[place] = min(start, starts.get(place, start))
            copied.end = max(copied.end, history.ends[place.topic])
    world = _ScriptedWorld(again, clock, histories)
    # Where reading began is in the copies; `start="latest"` has had its effect already.
    declarations = replace(app.declarations, starts_latest=set(), timed=[])
    worker = _ScriptedWorker(
        app,
        0,
        journal=again,
        disk=Disk(MemoryEngine()),
        clock=clock,
        settings=settings,
        declarations=declarations,
    )
    worker.source, worker.scripts = journal, scripts
    world.workers[app] = [worker]
    try:
        worker.start()
        await world.quiet()
    finally:
        await worker.end()
    return again


class _ScriptedWorld(World):
    """Quiet when every task has handled what its history says."""

    def __init__(
        self, journal: Journal, clock: VirtualClock, histories: Mapping[TopicPartition, TaskHistory]
    ) -> None:
        super().__init__(journal, clock)
        self._histories = histories

    def has_caught_up(self, app: App, view: PartitionView) -> bool:
        changelog = changelog_name(app.declarations.app_id, view.group)
        history = self._histories.get(TopicPartition(changelog, view.partition))
        ends = history.ends if history is not None else {}
        replay = replay_name(app.declarations.app_id, view.group)
        reached = {replay: view.replay_offset_next}
        reached.update({place.topic: offset for place, offset in view.position.items()})
        return view.state is ViewState.STOPPED or (
            view.state is ViewState.SERVING
            and all(offset >= ends.get(name, 0) for name, offset in reached.items())
        )


class _ScriptedWorker(Worker):
    """Is handed its events in a given order."""

    source: Journal
    scripts: Mapping[Inputs, Sequence[Run]]

    def new_log(self) -> LinkedLog:
        link = Link(self.journal, self.fate, self.lookups)
        return _ScriptedLog(link, self)

    def new_global_view(self, group: Group) -> GlobalView:
        told = {place: history.lookups for place, history in self.source.tasks.items()}
        return ToldView(group, told)


class _ScriptedLog(LinkedLog):
    def __init__(self, link: Link, worker: _ScriptedWorker) -> None:
        super().__init__(link)
        self._source, self._scripts = worker.source, worker.scripts

    def new_reader(self, positions: Mapping[TopicPartition, int]) -> LinkedReader:
        script = self._scripts.get(Inputs.of(positions))
        if script is None:
            return super().new_reader(positions)
        return _ScriptedReader(self._link, positions, self._source, script)


class _ScriptedReader(LinkedReader):
    """Gives the runs of a history, one after the other, and then nothing any more."""

    def __init__(
        self, link: Link, positions: Mapping[TopicPartition, int], source: Journal, script: Sequence[Run]
    ) -> None:
        super().__init__(link, positions)
        self._link = link
        self._source = source
        self._number = next(iter(positions)).partition
        self._left = [run for run in script if run.end > positions[TopicPartition(run.topic, self._number)]]

    async def fetch(self, *, records_max: int, bytes_max: int) -> Sequence[Chunk]:
        await self._link.hop()
        if not self._left:
            await asyncio.get_running_loop().create_future()
        run = self._left.pop(0)
        place = TopicPartition(run.topic, self._number)
        return [chunk_of(place, self._source.between(place, run.start, run.end), run.end)]


# --- what differs


def _differences(app: App, place: TopicPartition, is_: TaskHistory, must_be: TaskHistory) -> Iterator[str]:
    where = f"{place.topic.removesuffix('.changelog')}/{place.partition}"
    keys = sorted(k for k in is_.rows.keys() | must_be.rows.keys() if is_.rows.get(k) != must_be.rows.get(k))
    for row in keys[:_SHOWN_MAX]:
        yield (
            f"{where}: the row {_key_text(app, row)} is {_text(is_.rows.get(row))} "
            f"and by the fold of its events {_text(must_be.rows.get(row))}"
        )
    sent, to_send = Counter(map(_signed, is_.outputs)), Counter(map(_signed, must_be.outputs))
    for count, what in ((sent - to_send, "was sent and should not"), (to_send - sent, "was not sent")):
        for (at, key, value, _), times in list(count.items())[:_SHOWN_MAX]:
            yield f"{where}: {_text(value)} to {at.topic} under {_text(key)} {what} ({times} times)"


def _signed(
    output: tuple[TopicPartition, Outgoing],
) -> tuple[TopicPartition, bytes | None, bytes | None, Any]:
    place, (key, value, headers, _) = output
    return place, key, value, _lasting(headers)


def _lasting(headers: Headers) -> tuple[Any, ...]:
    """What of the headers is the same whenever the event is sent."""
    try:
        envelope = decode_envelope(headers)
    except DecodeError:
        envelope = None
    own = tuple(h for h in headers if h[0] != "hr" and not h[0].startswith("ce_") and h[0] not in _CHANGING)
    return (envelope.event_id if envelope else b"", own)


def _key_text(app: App, store_key: bytes) -> str:
    name, _, raw = store_key.partition(b"\0")
    table = app.declarations.tables.get(name.decode())
    return (
        f"{raw!r} of {name.decode()}" if table is None else f"{table.keys.from_store(raw)!r} of {table.name}"
    )


def _text(raw: bytes | None) -> str:
    return "absent" if raw is None else raw.decode(errors="backslashreplace")


def events_of(history: TaskHistory, journal: Journal) -> Iterator[tuple[str, Record]]:
    """The events of a task with their topics, in the order in which they were handed out."""
    for run in history.runs:
        place = TopicPartition(run.topic, history.changelog.partition)
        for record in journal.between(place, run.start, run.end):
            yield run.topic, record
