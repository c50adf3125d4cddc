"""Reads that ask for a position of a partition that is being taken over: what is read is what was judged.

Each of these has once answered with a row from before the position: a partition that is not served yet
lacks nothing, and while the log is asked whether a token is true it begins to be served further back.
"""

import pytest

from headrace.events.position import Position, TopicPartition
from headrace.events.token import Token
from headrace.tables.memory import MemoryEngine
from headrace.tables.view import PartitionView, ViewState
from tests.http.patient import LATEST, PATH, Waiting, at_least
from tests.http.service import GROUP, INPUT


class TakenOver(Waiting):
    """A partition that is served, from an older position, while the log is asked something."""

    def take_over(self, view: PartitionView, offset_next: int) -> None:
        """Serve this partition once the log is asked, with no row and as far as here."""
        store = MemoryEngine().open(GROUP, view.partition)
        at = self.service.position(view.partition, offset_next)

        def serve() -> None:
            view.close(ViewState.RESTORING)
            view.serve(store, at)

        self.service.append(view.partition, 5)
        self.service.cluster.meanwhile = serve


@pytest.mark.parametrize("is_latest", [False, True])
@pytest.mark.parametrize("path", [PATH, "/balances"])
async def test_a_partition_that_is_not_served_is_never_said_to_contain_what_is_asked_for(
    path: str, is_latest: bool
) -> None:
    world = TakenOver()
    fresh = world.service.owned[world.view.partition] = PartitionView(GROUP, world.view.partition)
    world.take_over(fresh, 1)
    async with world.asking(LATEST if is_latest else at_least(world.token(5)), path) as request:
        answer = await request
    assert (answer.status_code, answer.json()["error"]) == (503, "StillRecovering")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("path", [PATH, "/balances"])
async def test_what_was_contained_before_the_log_was_asked_is_looked_at_again(path: str) -> None:
    world = TakenOver()
    world.view.advance(world.service.position(world.view.partition, 5))
    world.take_over(world.view, 4)
    world.service.append(0, 9, topic="out")
    asked = Position({world.place: 5, TopicPartition("out", 0): 9})
    token = Token.of(asked, world.service.catalog).text()
    async with world.asking(at_least(token), path) as request:
        assert not request.done()
        world.put(7, 5)
        answer = await request
    assert answer.status_code == 200
    assert Token.parse(answer.headers["Headrace-Position"]).covers(Token.parse(world.token(5)))
    assert f"{INPUT}/" not in answer.headers["Headrace-Unproven"]
