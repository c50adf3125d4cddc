"""Every worker knows the others' addresses, and which of them owns a partition."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.clock import SYSTEM_CLOCK
from headrace.errors import Fenced, TopicMismatch
from headrace.flow.members import Members, Peer, members_spec
from headrace.log.connect import connect
from headrace.log.port import Log
from headrace.log.simulated.log import SimulatedLog
from headrace.settings import Settings
from tests.flow.mortal import MortalCluster
from tests.flow.shop import open_shop
from tests.service import PATIENCE_S, append, quick, running


@pytest.fixture(params=["simulated", "embedded"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    found = (
        SimulatedLog() if request.param == "simulated" else connect(Settings(log=f"embedded://{tmp_path}/l"))
    )
    await found.open()
    await found.provision([members_spec("shop")])
    yield found
    await found.close()


@asynccontextmanager
async def reading(log: Log) -> AsyncIterator[Members]:
    """A directory of the shop's workers that has read what is there."""
    members = Members("shop", log, SYSTEM_CLOCK, retry_s=0.001)
    run = asyncio.create_task(members.run(), name="members under test")
    try:
        await until(members, lambda: members.is_current.is_set())
        yield members
    finally:
        run.cancel()
        await asyncio.wait({run})


async def until(members: Members, is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            await members.changed.wait()


async def until_two_are_known(members: Members) -> None:
    await until(members, lambda: len(members.addresses) == 2)


async def test_an_address_is_known_to_who_reads_already_and_to_who_comes_later(log: Log) -> None:
    async with reading(log) as early:
        assert early.addresses == {}
        await early.announce("w1", "10.0.0.1:6066")
        await until(early, lambda: early.addresses == {"w1": "10.0.0.1:6066"})
        async with reading(log) as late:
            assert late.addresses == {"w1": "10.0.0.1:6066"}


async def test_a_worker_that_restarts_elsewhere_is_found_there_and_one_that_retracts_is_forgotten(
    log: Log,
) -> None:
    async with reading(log) as members:
        await members.announce("w1", "10.0.0.1:6066")
        await members.announce("w2", "10.0.0.2:6066")
        await members.announce("w1", "10.0.0.9:6066")
        await until(members, lambda: members.addresses == {"w1": "10.0.0.9:6066", "w2": "10.0.0.2:6066"})
        await members.retract("w2")
        await until(members, lambda: members.addresses == {"w1": "10.0.0.9:6066"})
        async with reading(log) as late:
            assert late.addresses == {"w1": "10.0.0.9:6066"}


async def test_a_record_that_is_no_announcement_hides_none(log: Log) -> None:
    async with reading(log) as members:
        await members.announce("w1", "10.0.0.1:6066")
        await append(log, "shop.members", [(b"\xff", b"{}"), (b"w3", b"no JSON"), (b"w4", b"{}")])
        await members.announce("w2", "10.0.0.2:6066")
        await until(members, lambda: "w2" in members.addresses)
        assert members.addresses == {"w1": "10.0.0.1:6066", "w2": "10.0.0.2:6066"}


@pytest.mark.parametrize("hops", range(12))
async def test_a_cut_network_delays_an_announcement_and_hides_nobody(hops: int) -> None:
    cluster = MortalCluster()
    cluster.provision([members_spec("shop")])
    async with reading(SimulatedLog(cluster)) as members:
        await members.announce("w1", "10.0.0.1:6066")
        await until(members, lambda: "w1" in members.addresses)
        cluster.cut_after(hops)
        announcing = asyncio.create_task(members.announce("w2", "10.0.0.2:6066"), name="announcing")
        cut = asyncio.create_task(cluster.died.wait(), name="cut")
        await asyncio.wait({announcing, cut}, return_when=asyncio.FIRST_COMPLETED)
        assert members.addresses["w1"] == "10.0.0.1:6066"
        cluster.mend()
        await announcing
        await until(members, lambda: "w2" in members.addresses)
        assert members.addresses == {"w1": "10.0.0.1:6066", "w2": "10.0.0.2:6066"}
        cut.cancel()


async def test_a_second_process_of_the_same_name_is_not_outvoted() -> None:
    class Rivalled(SimulatedLog):
        """A log on which somebody takes every name right after it was taken."""

        async def writer(self, transactional_id: str):  # type: ignore[no-untyped-def]
            mine = await super().writer(transactional_id)
            await super().writer(transactional_id)
            return mine

    log = Rivalled()
    await log.provision([members_spec("shop")])
    with pytest.raises(Fenced):
        await Members("shop", log, SYSTEM_CLOCK, retry_s=0.001).announce("w1", "10.0.0.1:6066")


async def test_a_topic_that_is_gone_ends_the_directory_by_name() -> None:
    members = Members("shop", SimulatedLog(), SYSTEM_CLOCK, retry_s=0.001)
    with pytest.raises(TopicMismatch, match=r"shop\.members"):
        await members.run()


async def test_every_worker_knows_who_owns_a_partition_and_where() -> None:
    log, shop, same = SimulatedLog(), open_shop(partitions=2), open_shop(partitions=2)
    async with running(shop.app, log=log, settings=quick(instance="w1", advertise="one.example:80")) as one:
        assert one.runtime.peer("main", 0) == Peer("w1", "one.example:80", is_self=True)
        async with running(same.app, log=SimulatedLog(log.cluster), settings=quick(instance="w2")) as two:
            for service, own in ((one, "w1"), (two, "w2")):
                await until_two_are_known(service.runtime._members)
                peers = [service.runtime.peer("main", partition) for partition in (0, 1)]
                host, port = two.runtime.address
                assert peers == [
                    Peer("w1", "one.example:80", is_self=own == "w1"),
                    Peer("w2", f"{host}:{port}", is_self=own == "w2"),
                ]
            assert one.runtime.peer("main", 2) is None
            assert one.runtime.peer("other", 0) is None


async def test_only_a_worker_with_a_name_of_its_own_stays_announced_when_it_stops() -> None:
    log = SimulatedLog()
    for settings in (quick(instance="named"), quick()):
        async with running(open_shop().app, log=log, settings=settings):
            pass
    async with reading(log) as members:
        assert list(members.addresses) == ["named"]
