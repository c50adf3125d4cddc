"""Dead letters as the commands see them: found, chosen, and put back once, whatever becomes of a command."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace.cli.letters import FoundLetter, LetterPlace, Selection, find_letters, find_replayed
from headrace.cli.replay import BATCH_RECORDS_MAX, Outcome, Replay
from headrace.errors import Fenced
from headrace.events.position import TopicPartition
from headrace.flow.deadletter import Letter, dead_letters_name, replay_name
from headrace.flow.group import Group, form_groups
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import Append, Log, TopicInfo, TopicSpec, Writer
from headrace.log.simulated.log import SimulatedLog

APP = "shop"
LETTERS = dead_letters_name(APP)
REPLAY = replay_name(APP, "main")
LIMITS = {"buys": 1 << 20, LETTERS: 2 << 20}
NOTHING_SAID: Callable[[int], None] = lambda _: None  # noqa: E731


@pytest.fixture(params=["embedded", "simulated"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    opened: Log = EmbeddedLog(tmp_path / "log.db") if request.param == "embedded" else SimulatedLog()
    await opened.open()
    await opened.provision(
        [TopicSpec(name=name, partitions=2, record_bytes_max=limit) for name, limit in LIMITS.items()]
    )
    yield opened
    await opened.close()


def groups() -> Mapping[str, Group]:
    """One group with one agent, `earn`, on the topic `buys` of two partitions."""
    app = headrace.App(APP)
    buys: headrace.Topic[int, bytes] = app.topic("buys", key_type=int, value_type=bytes, partitions=2)

    @app.agent(buys, name="earn")
    async def earn(events: headrace.Stream[bytes]) -> None:
        async for _ in events:
            pass

    declared = app.declarations
    formed = form_groups(APP, declared.agents, [], {"buys": TopicInfo("buys", "id", 2)}, frozenset())
    return {group.name: group for group in formed}


def refused(offset: int, *, partition: int = 0, **changed: Any) -> Letter:
    """A purchase that `earn` refused."""
    letter = Letter(
        key=b"7",
        value=b"\xff%d" % offset,
        headers=(("trace", b"t"),),
        topic="buys",
        partition=partition,
        offset=offset,
        timestamp_ms=1_000 + offset,
        group="main",
        agent="earn",
        error="DecodeError",
        reason="not JSON",
        at_ms=2_000 + offset,
    )
    return replace(letter, **changed)


async def put(log: Log, *letters: Letter) -> None:
    """Write letters where a task would, in one unit."""
    appends = [
        Append(LETTERS, partition, [(each.key, each.value, each.to_headers(), each.at_ms) for each in its])
        for partition in (0, 1)
        if (its := [letter for letter in letters if letter.partition % 2 == partition])
    ]
    writer = await log.writer("task")
    await writer.commit(appends)
    await writer.close()


async def found(log: Log, selection: Selection) -> list[FoundLetter]:
    async with aclosing(find_letters(log, APP, selection)) as letters:
        return [letter async for letter in letters]


async def replay(log: Log, selection: Selection = Selection(), **options: Any) -> Outcome:  # noqa: B008
    limit = options.pop("limit", None)
    run = Replay(log, APP, groups(), **{"is_dry": False, "again": False} | options)
    return await run.run(selection, limit=limit, report=options.pop("report", NOTHING_SAID))


async def replayed(log: Log) -> list[tuple[int, Letter, int]]:
    """What is in the replay input: partition, letter and record time."""
    records = []
    for partition in range(2):
        place = TopicPartition(REPLAY, partition)
        end = (await log.offsets([place]))[place].end
        at = 0
        reader = await log.reader({place: 0})
        while at < end:
            for chunk in await reader.fetch(records_max=1_000, bytes_max=1 << 20):
                for key, value, headers, time_ms in zip(
                    chunk.keys, chunk.values, chunk.headers, chunk.timestamps_ms, strict=True
                ):
                    letter = Letter.parse(key, value, headers, dead_letters=LETTERS)
                    assert letter is not None
                    records.append((partition, letter, time_ms))
                at = chunk.offset_next
        await reader.close()
    return records


async def test_filters_choose_by_agent_topic_error_time_and_place(log: Log) -> None:
    await put(log, refused(0), refused(1, error="HandlerError"), refused(2, agent=""), refused(3, topic="x"))
    chosen: dict[Selection, list[int]] = {
        Selection(): [0, 1, 2, 3],
        Selection(agent="earn"): [0, 1, 3],
        Selection(topic="buys"): [0, 1, 2],
        Selection(error="HandlerError"): [1],
        Selection(since_ms=2_002): [2, 3],
        Selection(agent="earn", since_ms=2_001): [1, 3],
        Selection(places=frozenset({LetterPlace(0, 1), LetterPlace(0, 3)})): [1, 3],
        Selection(places=frozenset({LetterPlace(0, 99), LetterPlace(7, 0)})): [],
    }
    for selection, offsets in chosen.items():
        assert [each.letter.offset for each in await found(log, selection)] == offsets, selection


async def test_an_app_without_dead_letters_has_none() -> None:
    log = SimulatedLog()
    await log.open()
    assert await found(log, Selection()) == []
    assert await find_replayed(log, APP, [REPLAY]) == {}
    await log.close()


async def test_a_replayed_letter_is_the_same_record_and_names_where_it_came_from(log: Log) -> None:
    letters = [refused(0), refused(5, partition=1, key=None, value=None), refused(6, partition=1)]
    await put(log, *letters)
    assert (await replay(log)).replayed == 3
    there = await replayed(log)
    sources = [TopicPartition(LETTERS, partition) for partition in (0, 1, 1)]
    assert there == [
        (letter.partition, replace(letter, replay_of=source, replay_offset=offset), letter.at_ms)
        for letter, source, offset in zip(letters, sources, (0, 0, 1), strict=True)
    ]


async def test_what_was_replayed_is_left_out_unless_it_is_wanted_again(log: Log) -> None:
    await put(log, refused(0), refused(1))
    await replay(log, Selection(places=frozenset({LetterPlace(0, 1)})))
    second = await replay(log)
    assert (second.replayed, second.already) == (1, [LetterPlace(0, 1)])
    assert (await replay(log)).replayed == 0
    assert (await replay(log, again=True)).replayed == 2
    assert await find_replayed(log, APP, [REPLAY]) == {LetterPlace(0, 0): 2, LetterPlace(0, 1): 2}


async def test_a_dry_run_counts_and_writes_nothing(log: Log) -> None:
    await put(log, refused(0), refused(1))
    assert (await replay(log, is_dry=True)).replayed == 2
    assert await log.describe([REPLAY]) == {}


async def test_a_limit_takes_the_first_that_were_not_replayed(log: Log) -> None:
    await put(log, *(refused(offset) for offset in range(5)))
    assert (await replay(log, limit=2)).replayed == 2
    assert (await replay(log, limit=2)).replayed == 2
    assert [letter.offset for _, letter, _ in await replayed(log)] == [0, 1, 2, 3]


async def test_what_nobody_would_handle_is_named_and_not_written(log: Log) -> None:
    await put(
        log,
        refused(0, group="gone"),
        refused(1, agent="gone"),
        refused(2, topic="gone"),
        refused(4, partition=4),
        refused(5, agent=""),
    )
    outcome = await replay(log, Selection())
    assert outcome.replayed == 1
    assert [str(place) for place, _ in outcome.homeless] == ["0:0", "0:1", "0:2", "0:3"]
    reasons = " / ".join(reason for _, reason in outcome.homeless)
    for sentence in ("no group gone", "no agent gone", "reads topic gone", "no partition 4"):
        assert sentence in reasons
    absent = await replay(log, Selection(places=frozenset({LetterPlace(0, 77)})))
    assert (absent.absent, absent.is_complete) == ([LetterPlace(0, 77)], False)


class MortalLog:
    """A log on which a command dies in front of its n-th commit, or right behind it."""

    def __init__(self, log: Log, *, commits: int, is_behind: bool) -> None:
        self._log = log
        self._commits = commits
        self._is_behind = is_behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def writer(self, transactional_id: str) -> Writer:
        writer = await self._log.writer(transactional_id)
        commit: Callable[..., Awaitable[Any]] = writer.commit

        async def mortal(appends: Any, closing: Any = None) -> Any:
            self._commits -= 1
            if self._commits < 0 and not self._is_behind:
                raise asyncio.CancelledError
            done = await commit(appends, closing)
            if self._commits < 0:
                raise asyncio.CancelledError
            return done

        writer.commit = mortal  # type: ignore[method-assign]
        return writer


@pytest.mark.parametrize("is_behind", [False, True])
async def test_a_replay_that_is_killed_and_run_again_loses_and_doubles_nothing(
    log: Log, is_behind: bool
) -> None:
    count = 2 * BATCH_RECORDS_MAX + 10
    await put(log, *(refused(offset) for offset in range(count)))
    for commits in (0, 1):
        with pytest.raises(asyncio.CancelledError):
            await replay(MortalLog(log, commits=commits, is_behind=is_behind))
    heard: list[int] = []
    last = Replay(log, APP, groups(), is_dry=False, again=False)
    await last.run(Selection(), limit=None, report=heard.append)
    assert [letter.offset for _, letter, _ in await replayed(log)] == list(range(count))
    assert heard == sorted(heard)


async def test_a_second_replay_fences_the_first_so_that_nothing_is_doubled(log: Log) -> None:
    await put(log, refused(0), refused(1))
    holder = await log.writer(f"{APP}-dead-letters-replay")
    assert (await replay(log)).replayed == 2
    with pytest.raises(Fenced):
        await holder.commit([Append(REPLAY, 0, [(b"k", b"v", refused(0).to_headers(), 1)])])
    await holder.close()
    assert len(await replayed(log)) == 2
