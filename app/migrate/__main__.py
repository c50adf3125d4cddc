"""`python -m app.migrate`: three services on one database, and the way of one of them out of it."""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import date
from pathlib import Path
from types import FrameType

from app.before import schema
from app.client import NoAnswer
from app.folder import FolderInUse, fresh_folder
from app.grocery import EPOCH_ORDINAL, GroceryYear, load_year
from app.migrate.chain import Chain
from app.migrate.checker import Checker
from app.migrate.crossing import PATIENCE_S, Standstill
from app.migrate.frontdoor import FrontDoor, Refusal
from app.migrate.history import Histories
from app.migrate.load import Meter
from app.migrate.migration import Migration, Plan, Scene
from app.migrate.page import MigrationPage
from app.migrate.readers import Readers
from app.migrate.report import faults, summary
from app.migrate.sold import Sold
from app.migrate.status import Status
from app.migrate.trade import Trade
from app.pageserver import PageServer
from app.screen import Screen
from app.service import ServiceDied, await_ready, free_port
from headrace.bridge.database import connect
from headrace.causes import first_cause
from headrace.errors import HeadraceError
from headrace.testing.postgres_server import PostgresServer, ServerFailed

PAGE_PORT = 6075
DATABASES = ("postgresql", "sqlite")
FIRST_STEP, END = date(2017, 4, 1), date(2017, 7, 1)
"""Three months are sold in the old system, and three more from the first step on."""
FAILURES = (NoAnswer, ServiceDied, FolderInUse, ServerFailed, Standstill, Refusal, HeadraceError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the migration; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m app.migrate", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="end after the verdict, with status 0 or 1")
    parser.add_argument("--database", choices=DATABASES, default=DATABASES[0], help="what is left")
    parser.add_argument("--share", type=float, default=1.0, help="of six months, so much is sold")
    options = parser.parse_args(arguments)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    screen = Screen()
    try:
        with fresh_folder("migrate") as folder, _database(options.database, folder, screen) as url:
            return _run(screen, folder, url, share=options.share, ends=options.exit)
    except KeyboardInterrupt:
        screen.say("Stopped.")
        return 130 if options.exit else 0
    except Exception as error:
        cause = first_cause(error)
        if not isinstance(cause, FAILURES):
            raise
        screen.say(f"The migration failed: {cause}")
        return 1


def plan_of(year: GroceryYear, share: float) -> Plan:
    """What is sold, and how fast; a small share is for a first look, and for tests."""
    before, end = (
        int(share * sum(day < until.toordinal() - EPOCH_ORDINAL for day in year.baskets.days))
        for until in (FIRST_STEP, END)
    )
    is_whole = share >= 0.5
    return Plan(
        baskets_before=before,
        baskets=end,
        baskets_max=len(year.baskets),
        baskets_per_s=300.0 if is_whole else 20.0,
        reads_per_s=400.0 if is_whole else 200.0,
        window_s=8.0 if is_whole else 3.0,
        shadow_reads_min=100 if is_whole else 10,
        look_s=3.0 if is_whole else 0.5,
    )


def _run(screen: Screen, folder: Path, url: str, *, share: float, ends: bool) -> int:
    began_s = time.monotonic()
    year = load_year()
    status = asyncio.run(_migrate(screen, folder, url, year, plan_of(year, share), ends=ends))
    # Everything is started and stopped within these seconds.
    status.seconds = time.monotonic() - began_s
    found = summary(status)
    screen.say(json.dumps(found))
    return 0 if found["exact"] else 1


async def _migrate(
    screen: Screen, folder: Path, url: str, year: GroceryYear, plan: Plan, *, ends: bool
) -> Status:
    engine, log_url = connect(url), f"embedded://{folder / 'log.db'}"
    screen.say(f"The shared database is {engine.shown}; what the services say is in {folder}")
    await schema.create(engine)
    days = year.days_with_redemption()
    histories = await asyncio.to_thread(Histories, year, plan.baskets_max, days)
    sold = Sold(histories.households)
    async with AsyncExitStack() as stack:
        chain = stack.enter_context(Chain(folder, url, log_url))
        chain.start(*chain.old.values())
        await asyncio.to_thread(await_ready, list(chain.old.values()), PATIENCE_S)
        door = FrontDoor(database=chain.old["loyalty"].address, own=chain.own.address)
        meter = Meter()
        stack.push_async_callback(meter.close)
        meter.sources = chain.sources
        addresses = {name: chain.old[name].address for name in ("checkout", "promotions")}
        trade = stack.enter_context(Trade(year, days, plan.baskets_max, sold, **addresses))
        checker = Checker(histories, sold)
        readers = Readers(door, checker, histories.households, reads_per_s=plan.reads_per_s)
        status = Status(
            database=engine.name,
            baskets_per_s=plan.baskets_per_s,
            reads_per_s=plan.reads_per_s,
            tally=readers.tally,
        )
        stack.enter_context(readers)
        scene = Scene(
            year=year, engine=engine, database=url, log=log_url, folder=folder,
            chain=chain, door=door, trade=trade, readers=readers, meter=meter,
        )  # fmt: skip
        page = stack.enter_context(PageServer(lambda: MigrationPage(status), free_port(PAGE_PORT)))
        screen.say(f"Watch it: {page.url}")
        await Migration(plan, scene, status, screen.say).run()
        for fault in faults(status):
            screen.say(f"NOT AS IT MUST BE: {fault}")
        if not ends:
            screen.say(json.dumps(summary(status)))
            screen.say("The services and the page stay until Ctrl-C")
            await asyncio.Event().wait()
    return status


@contextmanager
def _database(kind: str, folder: Path, screen: Screen) -> Iterator[str]:
    """The address of an empty database."""
    if kind == "sqlite":
        yield f"sqlite://{folder / 'shop.db'}"
        return
    if (reason := PostgresServer.unavailable_reason()) is not None:
        raise ServerFailed(f"{reason}; make migrate DB=sqlite needs no server")
    screen.say("Starting PostgreSQL")
    with PostgresServer() as server:
        yield server.url


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
