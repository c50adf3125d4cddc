"""Why a row is so, and what happened to a key, on the page: told by the server, bounded, behind the token."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

import headrace
from headrace import Settings
from headrace.clock import SYSTEM_CLOCK
from headrace.flow.teller import Teller
from tests.service import Service, quick, running

HOSTILE = "<img src=x onerror=alert(1)>&\"'"


class Bought(headrace.Event, frozen=True):
    """Somebody has bought something."""

    cents: int
    note: str = ""


class PriceCorrected(headrace.Correction[Bought], frozen=True, kw_only=True):
    """It had another price."""

    cents: int
    cents_before: int


BuyingEvent = Bought | PriceCorrected


class Till:
    """A till with a page, and a browser without a window."""

    def __init__(self) -> None:
        self.app = headrace.App("till")
        self.buys: headrace.Topic[str, BuyingEvent] = self.app.topic(
            "buys", key_type=str, value_type=BuyingEvent, partitions=2
        )
        self.spent: headrace.Table[str, int] = self.app.Table("spent", key_type=str, default=int)
        self.hidden: headrace.Table[str, int] = self.app.Table("hidden", key_type=str, default=int)
        self.app.serve(self.spent, "/spent")
        self.is_patient = asyncio.Event()
        self.is_patient.set()
        self.is_waiting = asyncio.Event()

        @self.app.agent(self.buys)
        async def add_up(events: headrace.Stream[BuyingEvent]) -> None:
            async for delivery in events.events():
                if not self.is_patient.is_set():
                    self.is_waiting.set()
                await self.is_patient.wait()
                event = delivery.value
                if event.cents < 0:
                    raise ValueError(HOSTILE)
                before = event.cents_before if isinstance(event, PriceCorrected) else 0
                self.spent[delivery.key] += event.cents - before


@asynccontextmanager
async def till(settings: Settings | None = None) -> AsyncIterator[tuple[Till, Service, httpx.AsyncClient]]:
    opened = Till()
    async with running(opened.app, settings=settings or quick()) as service:
        host, port = service.runtime.address
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as http:
            yield opened, service, http


async def test_a_row_is_told_with_its_events_their_corrections_and_what_was_refused() -> None:
    async with till() as (opened, service, http):
        wrong = await service.send(opened.buys, Bought(250), key="ada")
        await service.send(opened.buys, Bought(-1), key="ada")
        by = await service.send(
            opened.buys,
            PriceCorrected(corrects=wrong.event_id, reason="yesterday", cents=200, cents_before=250),
            key="ada",
        )
        await service.until_applied()
        why = await http.get("/whiteboard/why", params={"table": "spent", "key": "ada"})
        assert (why.status_code, why.headers["content-type"]) == (200, "text/html; charset=utf-8")
        for part in (
            "These events make it.",
            wrong.event_id,
            by.event_id,
            'data-mark="corrected"',
            "yesterday",
            "<code>200</code>",
            "refused",
        ):
            assert part in why.text, part
        history = await http.get("/whiteboard/history", params={"table": "spent", "key": "ada"})
        assert history.status_code == 200
        assert history.text.count("<li>") == 3
        nobody = await http.get("/whiteboard/why", params={"table": "spent", "key": "nobody"})
        assert "No event has written it." in nobody.text
        none = await http.get("/whiteboard/history", params={"table": "spent", "key": "nobody"})
        assert "There is none in buys/" in none.text


async def test_nothing_that_people_wrote_becomes_a_part_of_the_page() -> None:
    async with till() as (opened, service, http):
        sent = await service.send(opened.buys, Bought(1, HOSTILE), key=HOSTILE)
        await service.send(opened.buys, Bought(-1, HOSTILE * 50), key=HOSTILE)
        correction = PriceCorrected(corrects=sent.event_id, reason=HOSTILE, cents=1, cents_before=1)
        await service.send(opened.buys, correction, key=HOSTILE)
        await service.until_applied()
        for what in ("why", "history"):
            told = await http.get(f"/whiteboard/{what}", params={"table": "spent", "key": HOSTILE})
            assert told.status_code == 200
            assert "onerror" in told.text
            assert "<img" not in told.text
            assert "default-src 'none'" in told.headers["content-security-policy"]


async def test_only_tables_that_are_served_are_told_of_and_only_to_whom_the_page_is_open() -> None:
    digest = hashlib.sha256(b"open-sesame").hexdigest()
    async with till(quick(tokens=(digest,))) as (opened, service, http):
        await service.send(opened.buys, Bought(1), key="ada")
        await service.until_applied()
        bearer = {"Authorization": "Bearer open-sesame"}
        for what in ("why", "history"):
            for table, headers, status in (
                ("spent", {}, 401),
                ("spent", bearer, 200),
                ("hidden", bearer, 400),
                ("no-such", bearer, 400),
            ):
                told = await http.get(
                    f"/whiteboard/{what}", params={"table": table, "key": "ada"}, headers=headers
                )
                assert told.status_code == status, (what, table, told.text)
        assert (
            await http.get("/whiteboard/why", params={"table": "spent"}, headers=bearer)
        ).status_code == 400
        posted = await http.post("/whiteboard/why", params={"table": "spent", "key": "a"}, headers=bearer)
        assert posted.status_code == 405


async def test_one_at_a_time_is_told_and_the_next_one_is_asked_to_come_again() -> None:
    async with till() as (opened, service, http):
        await service.send(opened.buys, Bought(1), key="ada")
        await service.until_applied()
        opened.is_patient.clear()
        asked = {"table": "spent", "key": "ada"}
        first = asyncio.create_task(http.get("/whiteboard/why", params=asked), name="first question")
        await opened.is_waiting.wait()
        second = await http.get("/whiteboard/history", params=asked)
        assert (second.status_code, "retry-after" in second.headers) == (503, True)
        opened.is_patient.set()
        assert (await first).status_code == 200
        assert (await http.get("/whiteboard/history", params=asked)).status_code == 200


async def test_what_takes_too_long_is_cut_and_says_so() -> None:
    async with till() as (opened, service, http):
        await service.send_all(opened.buys, [("ada", Bought(cents)) for cents in range(50)])
        await service.until_applied()
        run = service.runtime
        run.teller = Teller(
            service.log,
            groups=run._groups,
            tables=opened.app.declarations.tables,
            topics=[opened.buys],
            infos=run._topics,
            followed=(),
            clock=SYSTEM_CLOCK,
            time_max_s=0.0,
        )
        for what in ("why", "history"):
            told = await http.get(f"/whiteboard/{what}", params={"table": "spent", "key": "ada"})
            assert "the time was up" in told.text


@pytest.mark.parametrize("what", ["why", "history"])
async def test_the_newest_events_are_told_and_how_many_are_left_out(what: str) -> None:
    async with till() as (opened, service, http):
        await service.send_all(opened.buys, [("ada", Bought(cents)) for cents in range(40)])
        await service.until_applied()
        told = (await http.get(f"/whiteboard/{what}", params={"table": "spent", "key": "ada"})).text
        assert told.count("<li>") == 25
        assert "15 older events are left out" in told
        assert 'start="16"' in told
