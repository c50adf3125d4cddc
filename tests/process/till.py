"""A till whose prices are sometimes wrong, and a folder in which its commands are run."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from tests.process.test_command_line import TIMEOUT_S, Ended, Shell

TILL = '''
import headrace

class Bought(headrace.Event, frozen=True):
    cents: int

class PriceCorrected(headrace.Correction[Bought], frozen=True, kw_only=True):
    cents_before: int
    cents: int

BuyingEvent = Bought | PriceCorrected

app = headrace.App("till")
buys = app.topic("till.buys", key_type=str, value_type=BuyingEvent, partitions=2)
others = app.topic("till.others", key_type=int, value_type=BuyingEvent, partitions=2)
spent = app.Table("spent", key_type=str, value_type=int, default=int)

@app.agent(buys)
async def add_up(events):
    """Adds up, and puts right what was wrong."""
    async for delivery in events.events():
        bought = delivery.value
        if bought.cents < 0:
            raise ValueError("nobody is paid for buying")
        before = bought.cents_before if delivery.corrects else 0
        spent[delivery.key] += bought.cents - before
'''


class Till(Shell):
    """A folder with the till in it."""

    def __init__(self, folder: Path, *, app: str = "till") -> None:
        super().__init__(folder)
        (folder / "till.py").write_text(TILL.replace('App("till")', f'App("{app}")'))

    async def till(self, *arguments: str) -> Ended:
        return await self.run("headrace", "-A", "till", *arguments)

    async def works_off(self, key: str, row: str) -> None:
        """Run a worker until the committed row of a key is this."""
        worker = await self.started("headrace", "-A", "till", "worker", "-l", "warn")
        draining = asyncio.create_task(worker.communicate(), name="worker under test")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while (await self.till("get", "spent", key)).out != f"{row}\n":
                    assert not draining.done(), draining.result()
        finally:
            if worker.returncode is None:
                worker.send_signal(signal.SIGTERM)
            async with asyncio.timeout(TIMEOUT_S):
                await draining

    async def told(self, key: str, **event: Any) -> str:
        """Send an event; its id."""
        value = json.dumps({"type": "PriceCorrected" if "corrects" in event else "Bought", **event})
        ended = await self.till("send", "till.buys", value, "--key", key, "--json")
        assert ended.status == 0, ended.err
        event_id: str = ended.json()["event_id"]
        return event_id
