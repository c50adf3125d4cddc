"""What a client of Kafka makes of a cluster that has nobody to ask."""

from collections.abc import Sequence

import pytest

from headrace.errors import Unavailable
from headrace.log.kafka.connections import TRANSACTION, Connections
from headrace.log.kafka.metadata import Metadata


class Abandoned(Connections):
    """Connections to a cluster whose brokers all count as dead: a slow one answers so of itself."""

    async def metadata(self, topics: Sequence[str] | None = ()) -> Metadata:
        return Metadata("cluster", -1, {}, {})


async def test_a_cluster_that_knows_of_no_living_broker_is_unavailable_and_ends_no_worker() -> None:
    connections = Abandoned("127.0.0.1:9092", {}, client_id="test", timeout_s=1.0)
    with pytest.raises(Unavailable, match="knows of no broker that is alive"):
        await connections.coordinator(TRANSACTION, "task")
