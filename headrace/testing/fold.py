"""One line that holds a service to its promise: whatever crashes, tables are the fold of their events."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from headrace.app import App
from headrace.flow.deadletter import Letter
from headrace.flow.group import changelog_name
from headrace.settings import Settings
from headrace.tables.table import Table
from headrace.testing.harness import Harness, KeyRule, harness
from headrace.testing.items import Crash, CrashPoint
from headrace.testing.journal import is_replay
from headrace.testing.refold import events_of
from headrace.testing.world import PromiseBroken

Fold = Callable[[dict[Any, Any], Any], object]
"""Does to a plain dict what the agents do to a table, for one event."""

_UNIT_EVENTS_MAX = 8
_AFTER_MAX = 4
_LOST_STORES = 0.3


async def assert_fold(
    *apps: App,
    events: Iterable[Any],
    crashes: int = 100,
    seed: int = 0,
    fold: Mapping[Table[Any, Any], Fold] | None = None,
    key: KeyRule | None = None,
    workers: int = 1,
    settings: Settings | None = None,
    rocksdb: Path | None = None,
) -> None:
    """Send these events, crash the workers at so many random points, and hold all tables to their fold.

    After each crash: rows are those of their changelog, unit numbers rise by one, no event is sent
    twice. At the end: rows and outputs are what the agents make of the same events undisturbed, and,
    where `fold` names tables, what its functions make of them; events that ended as dead letters
    are left out. Raises: PromiseBroken, with the seed that repeats it.
    """
    rng = Random(seed)
    base = settings or msgspec.structs.replace(
        apps[0].settings_in_code(), unit_records_max=rng.randint(1, _UNIT_EVENTS_MAX)
    )
    story = with_crashes(list(events), crashes, rng, apps=apps, workers=workers)
    try:
        async with harness(*apps, workers=workers, key=key, settings=base, rocksdb=rocksdb) as h:
            await h.run(story)
            await h.check()
            for table, function in (fold or {}).items():
                check_model(h, table, function)
    except BaseException as error:
        error.add_note(f"assert_fold(..., crashes={crashes}, seed={seed}) repeats it")
        raise


def with_crashes(
    events: Sequence[Any], crashes: int, rng: Random, *, apps: Sequence[App], workers: int = 1
) -> list[Any]:
    """The events with so many crashes among them, at places and points that `rng` chooses."""
    places = sorted(rng.randint(0, len(events)) for _ in range(crashes))
    story: list[Any] = []
    for index in range(len(events) + 1):
        while places and places[0] == index:
            places.pop(0)
            story.append(
                Crash(
                    at=rng.choice(list(CrashPoint)),
                    after=rng.randint(1, _AFTER_MAX),
                    keeps_store=rng.random() >= _LOST_STORES,
                    worker=rng.randrange(workers),
                    app=rng.choice(apps),
                )
            )
        if index < len(events):
            story.append(events[index])
    return story


def check_model(h: Harness, table: Table[Any, Any], function: Fold) -> None:
    """Hold a table to a plain function of its events. Raises: PromiseBroken."""
    app = next(app for app in h.apps if app.declarations.tables.get(table.name) is table)
    changelog = changelog_name(app.declarations.app_id, table.group)
    letters = (each for each in h[app].dead_letters() if each.group == table.group)
    refused = Counter((each.topic, each.partition, each.offset) for each in letters)
    model: dict[Any, Any] = {}
    for place in sorted(place for place in h.log.tasks if place.topic == changelog):
        for topic, record in events_of(h.log.history(place), h.log):
            source = (topic, place.partition, record.offset)
            if is_replay(topic):
                letter = Letter.parse(record.key, record.value, record.headers)
                assert letter is not None, f"{source} is no dead letter"
                source = (letter.topic, letter.partition, letter.offset)
            if refused[source]:
                refused[source] -= 1
            elif record.value is not None:
                function(model, app.declarations.topics[source[0]].values.decode(record.value))
    rows = h[app].table(table).rows()
    wrong = [key for key in rows.keys() | model.keys() if rows.get(key) != model.get(key)]
    if wrong:
        first = min(wrong, key=repr)
        raise PromiseBroken(
            f"{len(wrong)} rows of {table.name} are not the fold of their events; "
            f"{first!r} is {rows.get(first)!r} and by the fold {model.get(first)!r}"
        )
