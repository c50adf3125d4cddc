"""What connections make of the answers of a broker that has just started."""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.errors import Unavailable
from headrace.log.kafka import connections
from headrace.log.kafka.connections import TRANSACTION, Connections
from headrace.log.kafka.metadata import Metadata


class Young(Connections):
    """Reaches brokers that tell of so many others, by address."""

    def __init__(self, known: Mapping[str, int]) -> None:
        super().__init__(",".join(known), {}, client_id="test", timeout_s=1.0)
        self._known = known

    async def _ask(self, place: tuple[str, int], request: Any) -> Any:
        return self._known[f"{place[0]}:{place[1]}"]


def metadata_of(brokers: int) -> Metadata:
    return Metadata("cluster", -1, {node: ("b", node) for node in range(brokers)}, {})


async def test_a_broker_that_knows_of_none_is_unavailable_and_another_one_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "read_metadata", metadata_of)
    with pytest.raises(Unavailable, match="knows of no broker that takes part"):
        await Young({"a:1": 0}).metadata()
    assert len((await Young({"a:1": 0, "a:2": 3}).metadata()).brokers) == 3


async def test_a_cluster_that_knows_of_no_living_broker_is_unavailable_and_ends_no_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "read_metadata", metadata_of)
    with pytest.raises(Unavailable, match="knows of no broker that takes part"):
        await Young({"a:1": 0}).coordinator(TRANSACTION, "task")
