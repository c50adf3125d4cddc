"""Shadow reads: the old database is asked the same, at the same position, however far it lags behind."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from headrace import Settings, bridge
from headrace.bridge.database import connect
from headrace.bridge.session import Access, Engine
from headrace.bridge.shadow.comparing import ShadowRun
from headrace.errors import DeclarationError
from headrace.http.reads import PointReads
from headrace.log.simulated.log import SimulatedLog
from tests.bridge.laggard import Laggard, create, write
from tests.flow.shop import Balance, Bought, Shop, open_shop
from tests.service import PATIENCE_S, Service, quick, running

COMPARISONS = int(os.environ.get("HEADRACE_TEST_SHADOWS", "1500"))
PEOPLE = 40
DELAY_MAX_S = 2.0 if COMPARISONS > 10_000 else 0.3
QUERY = "SELECT cents, visits FROM balances WHERE who = %s"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/old.db"
    return str(request.getfixturevalue("postgres_url"))


def shadowed(url: str, **options: Any) -> Shop:
    """A shop whose balances are compared with those of the old database."""
    shop = open_shop(partitions=2)
    shop.app.serve(shop.balances, "/balances")
    bridge.Shadow(
        shop.app,
        shop.balances,
        bridge.Database(url),
        query=QUERY,
        row=lambda row: Balance(*row),
        **{"sample": 1.0, **options},
    )
    return shop


class Readers:
    """Reads at the path of the balances, without a socket."""

    def __init__(self, service: Service) -> None:
        self._reads = PointReads(service.runtime, service.runtime.served_tables[0])
        self.answers: list[bytes] = []

    async def read(self, who: int) -> int:
        """The status of one read; its body is kept for a moment."""

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body":
                self.answers[:] = [message["body"]]

        return await self._reads.respond(b"%d" % who, None, send)


@asynccontextmanager
async def side_by_side(shop: Shop, engine: Engine, fate: Random, *, delay_max_s: float) -> AsyncIterator[Any]:
    """The shop, and the old database behind it."""
    await create(engine)
    log = SimulatedLog()
    async with running(shop.app, log=log, settings=quick()) as service:
        laggard = Laggard(shop, log, engine, fate, delay_max_s=delay_max_s)
        applying = asyncio.create_task(laggard.run(), name="laggard")
        try:
            yield service, laggard, service.runtime.shadows["balances"]
        finally:
            applying.cancel()
            await asyncio.wait({applying})


async def sell(service: Service, shop: Shop, fate: Random, *, count: int, people: int = PEOPLE) -> None:
    """Some purchases in one transaction; a few people buy much more often than the others."""
    events = [Bought(int(people * fate.random() ** 3), fate.randrange(1, 1000)) for _ in range(count)]
    await service.send_all(shop.buys, [(event.who, event) for event in events])


async def until_compared(shadow: ShadowRun, count: int) -> None:
    """Return once so many comparisons came to a result, or to none."""
    async with asyncio.timeout(4 * PATIENCE_S):
        while (found := shadow.findings).compared + found.undecided + found.failed < count:
            await shadow.changed.wait()


@pytest.mark.timeout(120 + COMPARISONS / 50)
async def test_a_database_that_lags_by_chance_raises_no_false_alarm(url: str) -> None:
    fate, engine = Random(6), connect(url)
    shop = shadowed(url)
    naive = await connect(url).connect(Access.READ)
    async with side_by_side(shop, engine, fate, delay_max_s=DELAY_MAX_S) as (service, _, shadow):
        readers, sampled, lagged = Readers(service), 0, 0
        async with asyncio.timeout(PATIENCE_S + COMPARISONS / 50):
            while sampled < COMPARISONS:
                await sell(service, shop, fate, count=fate.randrange(1, 60))
                while shadow.findings.waiting > 4_000:
                    await shadow.changed.wait()
                for _ in range(fate.randrange(1, 80)):
                    who = int(PEOPLE * fate.random() ** 3)
                    status = await readers.read(who)
                    sampled += 1
                    if sampled % 100 == 0:
                        # The control: whoever asks both sides at one time compares two positions.
                        rows = await naive.fetch(QUERY, (who,))
                        here = shop.balances.values.decoded(readers.answers[0]) if status == 200 else None
                        lagged += (Balance(*rows[0]) if rows else None) != here
        await until_compared(shadow, sampled)
    await naive.close()
    found = shadow.findings
    assert found.differing == 0, found.differences[:3]
    assert found.failed == found.dropped == 0
    assert found.agreed >= 0.98 * sampled
    assert lagged > 0


async def test_every_planted_difference_is_found_with_its_position(url: str) -> None:
    fate, engine = Random(7), connect(url)
    shop = shadowed(url)
    people = 200
    planted = set(range(0, people, 2))
    async with side_by_side(shop, engine, fate, delay_max_s=0.05) as (service, laggard, shadow):
        readers = Readers(service)
        for _ in range(20):
            await sell(service, shop, fate, count=50, people=people)
        await service.until_applied()
        await laggard.until_at(service.position())
        for who in sorted(planted):
            await write(
                engine,
                ("INSERT INTO balances VALUES (%s, 0, 0) ON CONFLICT DO NOTHING", (who,)),
                ("UPDATE balances SET cents = cents + 7 WHERE who = %s", (who,)),
            )
        for _ in range(10):
            await sell(service, shop, fate, count=50, people=people)
            for who in range(people):
                await readers.read(who)
        await until_compared(shadow, 10 * people)
        differences = {int(each.key): each for each in shadow.findings.differences}
    assert differences.keys() == planted
    for who, each in differences.items():
        applied = laggard.history.get(who, [])
        before = [e for place, offset, e in applied if offset < each.position[f"buys/{place.partition}"]]
        cents, visits = sum(event.cents for event in before), len(before)
        assert each.in_table == (repr(Balance(cents, visits)) if before else None)
        assert each.in_database == repr(Balance(cents + 7, visits))


async def test_more_samples_than_may_wait_are_dropped_and_counted(url: str) -> None:
    shop = shadowed(url, waiting_max=5)
    async with side_by_side(shop, connect(url), Random(8), delay_max_s=0.0) as (service, _, shadow):
        readers = Readers(service)
        await sell(service, shop, Random(8), count=10)
        for _ in range(12):
            await readers.read(1)
        assert shadow.findings.waiting == 5
        assert shadow.findings.dropped == 7


async def test_a_database_that_is_gone_costs_samples_and_no_read(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/old.db"
    shop = shadowed(url)
    async with running(shop.app, settings=quick()) as service:
        await service.send(shop.buys, Bought(1, 10), key=1)
        await service.until_applied()
        assert await Readers(service).read(1) == 200
        # Nobody has made its tables.
        shadow = service.runtime.shadows["balances"]
        await service.until(lambda: shadow.findings.failed == 1)
        assert shadow.findings.waiting == 0


async def test_only_a_share_of_the_reads_is_compared(tmp_path: Path) -> None:
    shop = shadowed(f"sqlite://{tmp_path}/old.db", sample=0.1, waiting_max=10_000)
    async with running(shop.app, settings=quick()) as service:
        readers, shadow = Readers(service), service.runtime.shadows["balances"]
        for _ in range(5_000):
            await readers.read(3)
        found = shadow.findings
        assert 350 < found.waiting + found.failed < 650


async def test_the_page_and_its_json_show_what_differs(url: str) -> None:
    shop = shadowed(url)
    async with side_by_side(shop, connect(url), Random(9), delay_max_s=0.0) as (service, laggard, shadow):
        await service.send(shop.buys, Bought(3, 10), key=3)
        await service.until_applied()
        await laggard.until_at({p: o for p, o in service.position().items() if o})
        await write(connect(url), ("UPDATE balances SET cents = 11", ()))
        host, port = service.runtime.address
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            assert (await client.get("/balances/3")).json() == {"cents": 10, "visits": 1}
            await until_compared(shadow, 1)
            (card,) = (await client.get("/whiteboard/shadows")).json()
            page = (await client.get("/", headers={"accept": "text/html"})).text
            metrics = (await client.get("/metrics")).text
    assert (card["table"], card["compared"], card["differing"]) == ("balances", 1, 1)
    (difference,) = card["differences"]
    assert (difference["key"], difference["in_table"]) == ("3", "Balance(cents=10, visits=1)")
    assert difference["in_database"] == "Balance(cents=11, visits=1)"
    assert "Shadow reads" in page
    assert "Balance(cents=11, visits=1)" in page
    assert 'headrace_shadow_reads_total{result="differing",table="balances"} 1.0' in metrics


async def test_the_json_is_behind_the_same_door_as_the_rest(tmp_path: Path) -> None:
    shop = shadowed(f"sqlite://{tmp_path}/old.db")
    settings: Settings = quick(tokens=(hashlib.sha256(b"secret").hexdigest(),))
    async with running(shop.app, settings=settings) as service:
        host, port = service.runtime.address
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            assert (await client.get("/whiteboard/shadows")).status_code == 401


def test_a_shadow_that_cannot_be_is_refused_where_it_is_declared(tmp_path: Path) -> None:
    shop = open_shop()
    ask: dict[str, Any] = {"query": QUERY, "row": lambda row: row}
    with pytest.raises(DeclarationError, match="above 0"):
        bridge.Shadow(shop.app, shop.balances, sample=0.0, **ask)
    with pytest.raises(DeclarationError, match="not declared on this app"):
        bridge.Shadow(shop.app, open_shop().balances, **ask)
    bridge.Shadow(shop.app, shop.balances, **ask)
    with pytest.raises(DeclarationError, match="two shadows"):
        bridge.Shadow(shop.app, shop.balances, **ask)
