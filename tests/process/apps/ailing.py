"""A service that falls ill once: in the way that an event says, while the file of the symptom is there."""

import asyncio
import os
import re
import threading
import time
from pathlib import Path

import headrace
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.embedded.reader import EmbeddedReader

app = headrace.App("ailing")
told: headrace.Topic[str, bytes] = app.topic("ailing.told", key_type=str, value_type=bytes, partitions=2)
sums: headrace.Table[str, int] = app.Table("sums", key_type=str, value_type=int, default=int)
app.serve(sums, "/sums")

SYMPTOMS = Path(os.environ.get("SYMPTOMS", "symptoms"))
SLOWLY = "SLOWLY_S" in os.environ
AWAITS_S = 3.0


def block_the_loop() -> None:
    """A call that blocks, as of a driver that knows no asyncio."""
    time.sleep(3_600)


def keep_the_interpreter() -> None:
    """A regular expression that never ends: no other thread of Python gets a turn."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def let_no_read_return() -> None:
    """As a disk that hangs."""
    assert app.current is not None
    log = app.current._log
    assert isinstance(log, EmbeddedLog)
    log._reading._thread.submit(threading.Event().wait)


def end_the_assignments() -> None:
    """As a bug that cancels what it does not own."""
    for task in asyncio.all_tasks():
        if task.get_name() == "assignments":
            task.cancel()


ILLNESSES = {
    each.__name__: each
    for each in (block_the_loop, keep_the_interpreter, let_no_read_return, end_the_assignments)
}


@app.agent(told)
async def add(events: headrace.Stream[bytes]) -> None:
    """Add numbers up; anything else is what the service is to come down with, once."""
    async for delivery in events.events():
        text = delivery.value.decode()
        if text == "await":
            await asyncio.sleep(AWAITS_S)
        elif text in ILLNESSES:
            if (SYMPTOMS / text).exists():
                (SYMPTOMS / text).unlink()
                ILLNESSES[text]()
        else:
            sums[delivery.key] += int(text)


if SLOWLY:
    _fetch = EmbeddedReader.fetch

    async def fetch_slowly(self: EmbeddedReader, *, records_max: int, bytes_max: int):  # type: ignore[no-untyped-def]
        """One record at a time, each after a while: as a log that is far away."""
        await asyncio.sleep(float(os.environ["SLOWLY_S"]))
        return await _fetch(self, records_max=1, bytes_max=bytes_max)

    EmbeddedReader.fetch = fetch_slowly  # type: ignore[method-assign]
