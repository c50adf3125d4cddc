"""What an answer of the old loyalty stands for, told as the new one tells it.

Once the applier alone writes loyalty's tables (Stage.POSITIONED), its position is true of every row: it is
read in the statement that reads the row. Whoever is sent back and forth between the two services brings the
token along, and neither answers with less than was seen at the other.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.database import app, applier, baskets
from headrace.bridge.session import SqlRow
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.token import Token
from headrace.log.connect import connect
from headrace.settings import Settings

COLUMNS = "p.topic, p.topic_id, p.offset_next"
FROM = """stage s LEFT JOIN headrace_positions p
    ON s.name = 'positioned' AND p.app = %s AND p.group_name = %s AND p.partition = %s"""
"""One statement is one snapshot: what is joined to this is as old as the position."""


class Standing(NamedTuple):
    """How far the rows of one partition are; nothing is told of it in earlier stages."""

    partition: int
    offsets: Mapping[str, int]
    topic_ids: Mapping[str, str]

    @classmethod
    def of(cls, partition: int, rows: Sequence[SqlRow]) -> "Standing":
        """What the columns of a query say, which come first in each row."""
        told = [row[:3] for row in rows if row[0] is not None]
        return cls(partition, {row[0]: row[2] for row in told}, {row[0]: row[1] for row in told})

    def catalog(self, cluster_id: str) -> Catalog:
        """The topics that the rows were made of."""
        return Catalog(cluster_id, self.topic_ids)

    def token(self, cluster_id: str) -> Token:
        """The position as it goes to a client."""
        places = {TopicPartition(topic, self.partition): at for topic, at in self.offsets.items()}
        return Token.of(Position(places), self.catalog(cluster_id))

    def contains(self, asked: Token, cluster_id: str) -> bool:
        """Whether the rows have all that a client has seen of their partition. Raises: ForeignToken."""
        wanted = asked.located(self.catalog(cluster_id))
        return bool(self.offsets) and all(
            self.offsets[place.topic] >= offset
            for place, offset in wanted.items()
            if place.partition == self.partition
        )


def parameters(household: int) -> tuple[str, str, int]:
    """The parameters of FROM for the partition that a household lives in."""
    return app.declarations.app_id, applier.group, partition_of(household)


def partition_of(household: int) -> int:
    """Where the events of a household are."""
    partitions = baskets.spec.partitions
    assert partitions is not None
    return baskets.partitioner.place(baskets.keys.to_wire(household), partitions)


async def cluster_of(settings: Settings) -> str:
    """The identity of the log that positions are of. Raises: Unavailable."""
    log = connect(settings)
    await log.open()
    try:
        return log.cluster_id
    finally:
        await log.close()
