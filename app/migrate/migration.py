"""The steps by which loyalty leaves the shared database, one after the other, while the chain sells on."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.before import backfill
from app.before.stage import Stage, move_to
from app.client import NoAnswer
from app.grocery import GroceryYear
from app.migrate import crossing
from app.migrate.chain import Chain
from app.migrate.checkpoint import Checkpoints, check_database
from app.migrate.frontdoor import FrontDoor, Side
from app.migrate.ledger import Ledger
from app.migrate.load import Meter
from app.migrate.readers import Readers
from app.migrate.status import Load, Status
from app.migrate.trade import Trade
from app.service import ROOT, await_ready
from app.truth import Redeemed
from headrace.bridge.session import Engine
from headrace.log.connect import connect as connect_log
from headrace.log.port import Log
from headrace.settings import Settings

WATCH_EVERY_S = 0.5
_SHADOW_READS = 'headrace_shadow_reads_total{{result="{}",table="balances"}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is sold, and how fast."""

    baskets_before: int
    """Sold before anything is changed."""
    baskets: int
    """Sold in all, at least."""
    baskets_max: int
    """Sold if the steps take so long: the trade never stops for them."""
    baskets_per_s: float
    reads_per_s: float
    window_s: float
    """For so long the load is measured, before and after."""
    shadow_reads_min: int
    look_s: float
    """For so long reads stay where they were moved to before the next step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the steps are taken on."""

    year: GroceryYear
    engine: Engine
    database: str
    log: str
    folder: Path
    chain: Chain
    door: FrontDoor
    trade: Trade
    readers: Readers
    meter: Meter


class Migration:
    """One migration; what it works on is opened and closed by who runs it."""

    def __init__(self, plan: Plan, scene: Scene, status: Status, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._scene = scene
        self._status = status
        self._say = say
        self._began_s = time.monotonic()

    async def run(self) -> None:
        """Take every step. Raises: NoAnswer, ServiceDied, Standstill, HeadraceError."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(), name="watch")
            await self._run_old_system()
            await self._publish()
            log = connect_log(Settings(log=self._scene.log))
            await log.open()
            try:
                await self._leave(log)
            finally:
                await log.close()
            watching.cancel()
        self._status.is_done = True
        self._status.seconds = time.monotonic() - self._began_s

    async def _leave(self, log: Log) -> None:
        ledger = await Ledger.open(log)
        try:
            checks = Checkpoints(self._scene.engine, ledger, self._scene.chain.own.address)
            await self._apply(log, ledger)
            await self._shadow()
            await self._check(checks, "reads from the database")
            await self._move_back_and_forth(checks)
            await self._finish(log, ledger, checks)
        finally:
            await ledger.close()

    # --- the steps

    async def _run_old_system(self) -> None:
        plan, trade = self._plan, self._scene.trade
        self._step("The old system: three services write one database")
        paced = int(plan.baskets_per_s * plan.window_s)
        await self._sell(plan.baskets_before - paced)
        trade.sell(plan.baskets_before, baskets_per_s=plan.baskets_per_s)
        self._status.before = await self._measured("before")
        await self._until_sold()
        self._add(await check_database(self._scene.engine))
        # From here on the chain sells at its pace, whatever is done.
        trade.sell(plan.baskets_max, baskets_per_s=plan.baskets_per_s)

    async def _publish(self) -> None:
        chain, engine = self._scene.chain, self._scene.engine
        self._step("Outboxes: checkout and promotions publish what they write, and what they wrote before")
        await self._move_stage(Stage.BASKETS)
        chain.start(chain.bridge, chain.own)
        self._status.is_bridged = True
        baskets = await backfill.publish_baskets(engine)
        await self._move_stage(Stage.PUBLISHED)
        redemptions = await backfill.publish_redemptions(engine)
        self._say(
            f"  published from the time before: {baskets:,} baskets, "
            f"{redemptions:,} campaigns and redemptions"
        )
        await asyncio.to_thread(await_ready, [chain.bridge, chain.own], crossing.PATIENCE_S)
        self._scene.meter.sources = chain.sources

    async def _apply(self, log: Log, ledger: Ledger) -> None:
        self._step("The database becomes a consumer: the applier writes loyalty's tables from the events")
        await self._move_stage(Stage.APPLIED)
        # Everything that checkout and promotions have marked as written themselves is in the outbox by now.
        await crossing.outbox_emptied(self._scene.engine)
        await crossing.applied(self._scene.engine, log, ledger)
        await self._move_stage(Stage.POSITIONED)

    async def _shadow(self) -> None:
        self._step("Shadow reads: what the database answers is compared with loyalty's own table")
        self._scene.door.is_mirrored = True
        await crossing.until(self._has_shadows, "not enough shadow reads were compared")
        await self._diff()
        self._scene.door.is_mirrored = False

    async def _move_back_and_forth(self, checks: Checkpoints) -> None:
        chain = self._scene.chain
        self._step("Reads move to loyalty's own table")
        await self._move_reads(Side.OWN)
        await self._check(checks, "reads from loyalty's own table")
        self._step("Reads move back to the database, and loyalty restarts without one")
        await self._move_reads(Side.DATABASE)
        await self._check(checks, "reads back at the database")
        await self._read_shadows()
        await asyncio.to_thread(chain.replace, chain.own, chain.alone)
        await asyncio.to_thread(await_ready, [chain.alone], crossing.PATIENCE_S)
        self._scene.meter.sources = chain.sources
        self._status.is_alone = True
        self._step("Reads move to loyalty's own table, for good")
        await self._move_reads(Side.OWN)

    async def _finish(self, log: Log, ledger: Ledger, checks: Checkpoints) -> None:
        plan, trade = self._plan, self._scene.trade
        self._status.after = await self._measured("after")
        self._step("The rest of the trade, as fast as it is taken")
        sold = trade.sell(plan.baskets)
        await self._until_sold()
        await crossing.outbox_emptied(self._scene.engine)
        await crossing.applied(self._scene.engine, log, ledger)
        await self._diff()
        await self._check(checks, "the end")
        self._status.missing = self._missing(ledger, sold)

    # --- what steps are made of

    def _step(self, what: str) -> None:
        self._status.step = what
        self._status.steps.append(what)
        self._say(f"{time.monotonic() - self._began_s:5.1f} s  {what}")

    async def _move_stage(self, stage: Stage) -> None:
        await move_to(stage, self._scene.engine)
        self._status.stage = stage

    async def _move_reads(self, side: Side) -> None:
        self._scene.door.move(side)
        self._status.side = side
        await asyncio.sleep(self._plan.look_s)

    async def _sell(self, goal: int) -> None:
        self._scene.trade.sell(goal)
        await self._until_sold()

    async def _until_sold(self) -> None:
        await asyncio.to_thread(self._scene.trade.wait)

    async def _measured(self, name: str) -> Load:
        """The load of a window; trade and reads go on at the pace of the plan."""
        meter, start = self._scene.meter, self._sold()
        first = await meter.count()
        await asyncio.sleep(self._plan.window_s - 1)
        load = self._load(first_s=first.at_s, start=start, rates=(await meter.count()).rates_since(first))
        self._say(
            f"  {name}: {load.total:,.0f} statements/s on the shared database ("
            + ", ".join(f"{who} {rate:,.0f}" for who, rate in load.statements_per_s.items())
            + f") at {load.baskets_per_s:,.0f} baskets/s and {load.reads_per_s:,.0f} reads/s"
        )
        return load

    def _sold(self) -> tuple[int, int]:
        return self._scene.trade.baskets, self._scene.readers.tally.reads

    def _load(self, *, first_s: float, start: tuple[int, int], rates: Mapping[str, float]) -> Load:
        seconds = time.monotonic() - first_s
        baskets, reads = (now - then for now, then in zip(self._sold(), start, strict=True))
        return Load(seconds, rates, baskets / seconds, reads / seconds)

    async def _check(self, checks: Checkpoints, name: str) -> None:
        self._add(await checks.check(name))

    def _add(self, found: Any) -> None:
        self._status.checkpoints.append(found)
        verdict = "exact" if found.is_exact else "NOT EXACT"
        self._say(
            f"  checked at {found.facts:,} facts ({found.name}): {found.households:,} households, "
            f"{found.at_once:,} of them at once, {found.looks} looks: {verdict}"
        )

    async def _has_shadows(self) -> bool:
        await self._read_shadows()
        return self._status.shadow_agreed + self._status.shadow_differing >= self._plan.shadow_reads_min

    async def _read_shadows(self) -> None:
        chain, status = self._scene.chain, self._status
        found = await self._scene.meter.metrics(chain.own.address)
        status.shadow_agreed = int(found.get(_SHADOW_READS.format("agreed"), 0))
        status.shadow_differing = int(found.get(_SHADOW_READS.format("differing"), 0))

    async def _diff(self) -> None:
        """`headrace bridge diff balances`, as people type it."""
        command = [str(Path(sys.executable).with_name("headrace")), "-A", "app.leaving", "bridge", "diff"]
        settings = (
            f"HEADRACE_LOG={self._scene.log}",
            f"HEADRACE_DATABASE={self._scene.database}",
            f"HEADRACE_DATA={self._scene.folder / 'data' / 'diff'}",
        )
        process = await asyncio.create_subprocess_exec(
            "env", *settings, *command, "balances", "--json", cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, said = await process.communicate()
        answers = [line for line in output.decode().splitlines() if line.startswith("{")]
        if len(answers) != 1:
            raise NoAnswer(f"{' '.join(command)} ended with {process.returncode}: {said.decode()[-2000:]}")
        found = json.loads(answers[0])
        self._status.diffs.append(found)
        counts = ", ".join(f"{found[name]} {name}" for name in ("missing", "extra", "different", "undecided"))
        self._say(f"  headrace bridge diff balances: {found['compared']:,} rows, {counts}")

    def _missing(self, ledger: Ledger, baskets: int) -> int:
        """How many facts were sold and are not in the log once."""
        year, part = self._scene.year, ledger.whole()
        sold = set(year.baskets.basket_ids[:baskets])
        redeemed = {
            Redeemed(each.household_id, each.coupon_upc, each.campaign_id, each.day)
            for day in self._scene.trade.days
            if day.baskets[-1] < baskets
            for each in day.redemptions
        }
        twice = ledger.facts - len(set(part.basket_ids)) - len(set(part.redemptions))
        return len(sold ^ set(part.basket_ids)) + len(redeemed ^ set(part.redemptions)) + twice

    # --- all the time

    async def _watch(self) -> None:
        """Look at everything that may fail, and at the load; raises what it finds."""
        scene, status = self._scene, self._status
        before = await scene.meter.count()
        start = self._sold()
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            scene.chain.check()
            scene.trade.check()
            scene.readers.check()
            try:
                now = await scene.meter.count()
            except NoAnswer:
                continue  # loyalty restarts; whoever has died is found by the checks
            status.now = self._load(first_s=before.at_s, start=start, rates=now.rates_since(before))
            status.baskets, status.redemptions = scene.trade.baskets, scene.trade.redemptions
            before, start = now, self._sold()
