"""What a bug refused is applied after the fix: all of it, each once, whoever is killed meanwhile."""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client import Client
from headrace.cli.replay import BATCH_RECORDS_MAX
from headrace.events.partitioner import Partitioner
from headrace.events.position import TopicPartition
from headrace.flow.deadletter import replay_name
from headrace.log.connect import connect
from headrace.log.port import Append, Log, Outgoing
from headrace.settings import Settings
from headrace.tables.tail import last_position
from headrace.testing.kafka_broker import KafkaBroker
from tests.process.apps.shop import PARTITIONS
from tests.process.records import read_letters, read_records
from tests.process.workers import REPOSITORY, Worker, breath, running, until_covered

SEED = 20261125
BUGS, OLD_SHAPES, FINE = 1_000, 200, 2_400
REPLAY = replay_name("shop", "main")
Sale = dict[str, Any]


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_what_a_bug_or_a_missing_upcast_refused_is_applied_once_by_a_replay_after_the_fix(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    fate = random.Random(SEED)
    settings = {"HEADRACE_LOG": f"kafka://{own_broker.address}"}
    before, after = (
        Worker(f"tests.process.apps.shop_{name}", "w0", tmp_path, settings, by_faust=False)
        for name in ("before", "after")
    )
    sales = _sales(fate)
    log = connect(Settings(log=settings["HEADRACE_LOG"]))
    await log.open()
    try:
        async with httpx.AsyncClient(timeout=10.0) as client:
            async with running(before):
                ends = await _append(log, sales)
                await until_covered(client, [before], ends)
                assert await asyncio.to_thread(_rows, before) == _takings(filter(_is_fine, sales))
                assert await before.terminate() == 0, before.tail()
            letters = await read_letters(log, "shop")
            assert Counter(letter.error for letter in letters) == {
                "ZeroDivisionError": BUGS,
                "DecodeError": OLD_SHAPES,
            }
            refused = [json.loads(letter.value or b"") for letter in letters]
            assert _counted(refused) == _counted([sale for sale in sales if not _is_fine(sale)])

            async with running(after):
                await _kill_a_replay(after, log)
                replaying = asyncio.create_task(
                    after.command("dead-letters", "replay", "--all", "--json"), name="replay"
                )
                for least in (BUGS // 4, BUGS // 2):
                    await _until_replayed(log, least)
                    await after.kill()
                    await after.start()
                    await after.until_ready()
                status, output = await replaying
                told = json.loads(output.splitlines()[-1])
                assert status == 0, output
                assert told["replayed"] + len(told["already_replayed"]) == BUGS + OLD_SHAPES
                await _until_replayed(log, BUGS + OLD_SHAPES)
                assert len(await read_records(log, REPLAY)) == BUGS + OLD_SHAPES

                again = await after.command("dead-letters", "replay", "--all", "--json")
                assert (again[0], json.loads(again[1].splitlines()[-1])["replayed"]) == (0, 0)
                # Behind a further sale in each partition nothing of a replay can still be on its way.
                more = [_sale(shop, 5) for shop in range(40)]
                await until_covered(client, [after], await _append(log, more))
                assert await asyncio.to_thread(_rows, after) == _takings([*sales, *more])
                assert await after.terminate() == 0, after.tail()
            assert len(await read_letters(log, "shop")) == BUGS + OLD_SHAPES
            thanked = [json.loads(record.value or b"") for record in await read_records(log, "shop.thanks")]
            assert _counted(thanked) == _counted([*sales, *more])
            verified = await after.command("verify", "--json")
            assert verified[0] == 0, verified[1]
    finally:
        await log.close()


# --- what goes in


def _sale(shop: int, cents: int) -> Sale:
    return {"type": "Sold", "shop": shop, "cents": cents}


def _sales(fate: random.Random) -> list[Sale]:
    """Sales of three kinds in any order; a hundred refused ones in a row are beyond all chance."""
    shops = [fate.randrange(200) for _ in range(BUGS + OLD_SHAPES + FINE)]
    sales = [_sale(shop, 100 * fate.randrange(50) + 99) for shop in shops[:BUGS]]
    for shop in shops[BUGS : BUGS + OLD_SHAPES]:
        sales.append(
            {"type": "Sold", "shop": shop, "dollars": f"{fate.randrange(90)}.{fate.randrange(100):02}"}
        )
    sales += [
        _sale(shop, 100 * fate.randrange(50) + fate.randrange(99)) for shop in shops[BUGS + OLD_SHAPES :]
    ]
    fate.shuffle(sales)
    return sales


async def _append(log: Log, sales: Sequence[Sale]) -> Mapping[str, int]:
    """Append the sales by shop; `topic/partition` to the offset after them."""
    appends: dict[int, list[Outgoing]] = {}
    for sale in sales:
        key = b"%d" % sale["shop"]
        record = (key, json.dumps(sale).encode(), (), 1_700_000_000_000)
        appends.setdefault(Partitioner.MURMUR2.place(key, PARTITIONS), []).append(record)
    writer = await log.writer("tills")
    ends = await writer.commit([Append("shop.sales", home, records) for home, records in appends.items()])
    await writer.close()
    return {f"{place.topic}/{place.partition}": end for place, end in ends.items()}


# --- what happens meanwhile


async def _kill_a_replay(worker: Worker, log: Log) -> None:
    """kill -9 of the command between its first batch and its second."""
    reading, writing = os.pipe()
    # Nobody reads what it tells, and nothing more fits in: it waits where it tells of the first batch.
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"." * 4_096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace", "-A", worker.app, "dead-letters", "replay", "--all",
        cwd=REPOSITORY, env=worker.environment, stdout=asyncio.subprocess.DEVNULL, stderr=writing,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while len(await read_records(log, REPLAY)) < BATCH_RECORDS_MAX:
                await breath()
    finally:
        process.kill()
        await process.wait()
        os.close(reading)
        os.close(writing)
    assert len(await read_records(log, REPLAY)) == BATCH_RECORDS_MAX


async def _until_replayed(log: Log, least: int) -> None:
    """Return once units with so many replayed letters are committed."""
    async with asyncio.timeout(120):
        while await _replayed(log) < least:
            await breath()


async def _replayed(log: Log) -> int:
    reached: dict[int, int] = {}
    places = [TopicPartition("shop.main.changelog", partition) for partition in range(PARTITIONS)]
    for place, held in (await log.offsets(places)).items():
        record = await last_position(log, place, held.start, held.end)
        reached[place.partition] = record.inputs[REPLAY].offset_next if record else 0
    return sum(record.offset < reached[record.place.partition] for record in await read_records(log, REPLAY))


# --- what came of it


def _is_fine(sale: Sale) -> bool:
    return bool(sale.get("cents", 99) % 100 != 99)


def _cents(sale: Sale) -> int:
    return int(sale["cents"] if "cents" in sale else sale["dollars"].replace(".", ""))


def _counted(sales: Iterable[Sale]) -> Counter[tuple[int, int]]:
    return Counter((sale["shop"], _cents(sale)) for sale in sales)


def _takings(sales: Iterable[Sale]) -> Mapping[int, Any]:
    """The plain model: what each shop took."""
    takings: dict[int, dict[str, int]] = {}
    for sale in sales:
        of_shop = takings.setdefault(sale["shop"], {"sales": 0, "cents": 0})
        of_shop["sales"] += 1
        of_shop["cents"] += _cents(sale)
    return takings


def _rows(worker: Worker) -> Mapping[int, Any]:
    with closing(Client(worker.address)) as client:
        return dict(client.rows("/takings"))
