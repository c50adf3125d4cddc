"""How fast one service takes in topics that are already full: events per second, on Kafka."""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import headrace
from headrace.flow.figures import FlowFigures
from headrace.log.connect import connect
from headrace.log.port import Append, Log, Outgoing
from headrace.runtime import Runtime

_APPEND_RECORDS = 10_000


def settings_of(address: str, run: str, folder: Path) -> headrace.Settings:
    """The settings of one run."""
    return headrace.Settings(log=f"kafka://{address}", data=str(folder / run), http="127.0.0.1:0")


async def fill(log: Log, topic: str, records: Iterable[Outgoing], *, partition: int = 0) -> None:
    """Append the records to one partition of a topic, in transactions of 10,000."""
    writer = await log.writer(f"{topic}-fill")
    batch: list[Outgoing] = []
    for record in records:
        batch.append(record)
        if len(batch) == _APPEND_RECORDS:
            await writer.commit([Append(topic, partition, batch)])
            batch = []
    if batch:
        await writer.commit([Append(topic, partition, batch)])
    await writer.close()


async def provision(settings: headrace.Settings, app: headrace.App) -> Log:
    """A log with the app's topics, open."""
    log = connect(settings)
    await log.open()
    await log.provision([topic.spec for topic in app.declarations.topics.values()])
    return log


async def ingest(app: headrace.App, settings: headrace.Settings, events: int) -> tuple[float, FlowFigures]:
    """Run the app until so many events are committed: events per second, and what it did.

    Raises: RuntimeError when the run ends before.
    """
    runtime = app.current = Runtime(app.declarations, settings)
    running = asyncio.create_task(runtime.run(), name="runtime")
    await runtime.ready.wait()
    began = time.perf_counter()
    views = runtime.views()
    while runtime.figures_of_flow.events < events:
        changes = [asyncio.create_task(view.changed.wait(), name="changed") for view in views]
        await asyncio.wait({*changes, running}, return_when=asyncio.FIRST_COMPLETED)
        for change in changes:
            change.cancel()
        if running.done():
            raise RuntimeError("the run ended early")
    seconds = time.perf_counter() - began
    figures = runtime.figures_of_flow
    runtime.stop()
    await running
    return events / seconds, figures
