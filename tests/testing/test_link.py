"""A worker's way to the cluster: what it fetched while it was made to stand still is not lost."""

import asyncio

from headrace.events.position import TopicPartition
from headrace.log.port import Append, TopicSpec
from headrace.testing.journal import Journal
from headrace.testing.link import Fate, Link, LinkedLog
from headrace.testing.lookups import Lookups

PLACE = TopicPartition("orders", 0)


async def test_a_fetch_that_is_cancelled_while_the_worker_stands_still_loses_nothing() -> None:
    fate, journal = Fate(), Journal()
    fate.is_restoring = False
    log = LinkedLog(Link(journal, fate, Lookups()))
    await log.provision([TopicSpec(name=PLACE.topic, partitions=1)])
    reader = await log.reader({PLACE: 0})
    fetching = asyncio.create_task(reader.fetch(records_max=9, bytes_max=99), name="fetch")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    fate.going.clear()
    epoch = journal.begin_epoch("test")
    journal.commit("test", epoch, [Append(*PLACE, [(b"k", b"v", (), 0)])])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    fetching.cancel()
    await asyncio.wait({fetching})
    assert fetching.cancelled()

    fate.going.set()
    (chunk,) = await reader.fetch(records_max=9, bytes_max=99)
    assert list(chunk.offsets) == [0]
    await reader.close()
