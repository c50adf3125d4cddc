"""Dead letters on a real broker: control records between them, transactions, and a command that dies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from headrace.cli.letters import LetterPlace, Selection, find_letters, find_replayed
from headrace.log.kafka.log import KafkaLog
from headrace.log.port import Log, TopicSpec
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from tests.unit.test_replay import APP, LIMITS, REPLAY, MortalLog, put, refused, replay, replayed


@pytest.fixture
async def log(own_broker: KafkaBroker) -> AsyncIterator[Log]:
    opened = KafkaLog(Settings(log=f"kafka://{own_broker.address}"), address=own_broker.address)
    await opened.open()
    limits = LIMITS.items()
    await opened.provision(
        [TopicSpec(name=name, partitions=2, record_bytes_max=limit) for name, limit in limits]
    )
    yield opened
    await opened.close()


async def places(log: Log, selection: Selection) -> list[LetterPlace]:
    async with aclosing(find_letters(log, APP, selection)) as letters:
        return [letter.place async for letter in letters]


@pytest.mark.kafka
async def test_a_replay_that_dies_before_and_behind_its_commit_goes_on_where_it_was(log: Log) -> None:
    for offset in range(3):
        await put(log, refused(offset), refused(10 + offset, partition=1, key=None))
    there = await places(log, Selection())
    assert len(there) == 6
    # Every transaction ends with a control record, which has an offset, too.
    assert there[:3] == [LetterPlace(0, 0), LetterPlace(0, 2), LetterPlace(0, 4)]
    assert await places(log, Selection(places=frozenset({there[1], LetterPlace(0, 1)}))) == [there[1]]

    with pytest.raises(asyncio.CancelledError):
        await replay(MortalLog(log, commits=0, is_behind=False))
    assert (await replay(log, Selection(places=frozenset({there[1]})))).replayed == 1
    with pytest.raises(asyncio.CancelledError):
        await replay(MortalLog(log, commits=0, is_behind=True))
    assert (await replay(log)).replayed == 0
    assert await find_replayed(log, APP, [REPLAY]) == dict.fromkeys(there, 1)
    assert sorted(letter.offset for _, letter, _ in await replayed(log)) == [0, 1, 2, 10, 11, 12]
