"""Changelogs of the job's table, filled as if so many articles had been ordered."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.filling import create, fill_kafka
from bench.ingest import fill
from bench.orders import scattered
from headrace.flow.group import CHANGELOG_COMPACTION_LAG_MS, CHANGELOG_DELETE_RETENTION_MS, changelog_name
from headrace.log.connect import connect
from headrace.log.port import Outgoing, TopicSpec
from headrace.settings import Settings
from headrace.tables.changelog import POSITION_KEY, InputPosition, PositionRecord, encode_position

TABLE = "quantities"
_GROUP = "main"
_UNIT_ROWS = 9_999
"""With its position record it is one transaction of the filling."""


@dataclass(frozen=True, slots=True)
class Articles:
    """So many articles, each once, in an order in which no two neighbours follow each other."""

    count: int

    def __iter__(self) -> Iterator[str]:
        return (f"sku-{scattered(number, self.count):06d}" for number in range(self.count))

    def quantities(self) -> Iterator[tuple[str, int]]:
        """A quantity of each."""
        dice = random.Random(self.count)
        return ((sku, 1 + int(dice.random() * 9)) for sku in self)

    def total(self) -> int:
        """All quantities together."""
        return sum(quantity for _, quantity in self.quantities())


async def fill_headrace(address: str, run: str, orders_topic: str, articles: Mapping[int, Articles]) -> str:
    """The changelog that headrace's job would have written before its first order; its topic.

    Shape: `articles` are the rows by partition, which are not asked whether they belong there; the last
    partition is among them.
    """
    log = connect(Settings(log=f"kafka://{address}"))
    await log.open()
    try:
        topic = changelog_name(run, _GROUP)
        spec = TopicSpec(
            name=topic,
            partitions=max(articles) + 1,
            is_compacted=True,
            compaction_lag_ms=CHANGELOG_COMPACTION_LAG_MS,
            delete_retention_ms=CHANGELOG_DELETE_RETENTION_MS,
        )
        await log.provision([spec])
        orders_id = (await log.describe([orders_topic]))[orders_topic].topic_id
        inputs = {orders_topic: InputPosition(orders_id, 0)}
        for partition, rows in articles.items():
            await fill(log, topic, _units(rows, inputs), partition=partition)
        return topic
    finally:
        await log.close()


def _units(articles: Articles, inputs: dict[str, InputPosition]) -> Iterator[Outgoing]:
    number = 1
    for at, (sku, quantity) in enumerate(articles.quantities(), 1):
        yield f"{TABLE}\0{sku}".encode(), b"%d" % quantity, (), 0
        if not at % _UNIT_ROWS or at == articles.count:
            yield POSITION_KEY, encode_position(PositionRecord(number, inputs)), (), 0
            number += 1


async def fill_faust(address: str, run: str, articles: Articles) -> None:
    """The changelog of faust-streaming's job."""
    rows = ((json.dumps(sku).encode(), b"%d" % quantity, None) for sku, quantity in articles.quantities())
    topic = f"{run}-{TABLE}-changelog"
    await create(address, topic, 1, configs={"cleanup.policy": "compact"})
    await fill_kafka(address, topic, rows)
