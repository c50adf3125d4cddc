"""Two workers on Kafka follow one global table: each answers for all of it, whoever is killed meanwhile."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import httpx
import pytest

from headrace.testing.kafka_broker import KafkaBroker
from tests.process.workers import Worker, breath, running

PRODUCTS = 10
TURNS = 60
KILL_AT = 25


async def post(client: httpx.AsyncClient, worker: Worker, product: str, cents: int) -> str:
    """Tell a price; the position of what was told."""
    body = json.dumps({"product": product, "cents": cents, "type": "Priced"})
    answer = await client.post(f"http://{worker.address}/events", content=body)
    assert answer.status_code == 200, answer.text
    return answer.headers["headrace-position"]


async def read(client: httpx.AsyncClient, worker: Worker, product: str, token: str) -> int:
    """The price once the worker has what the token stands for; while nobody owns it that takes long."""
    headers, patience = {"Headrace-Position": token, "Prefer": "wait=10"}, 3
    while patience:
        answer = await client.get(f"http://{worker.address}/prices/{product}", headers=headers)
        patience = patience - 1 if answer.status_code == 503 else 0
    assert answer.status_code == 200, f"{worker.instance}: {answer.text}\n{worker.tail()}"
    price: int = answer.json()
    return price


@pytest.mark.kafka
async def test_each_worker_answers_for_the_whole_table_and_orders_never_miss_the_price_they_follow(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    environment = {
        "HEADRACE_LOG": f"kafka://{own_broker.address}",
        "HEADRACE_SESSION_TIMEOUT_S": "2",
        "HEADRACE_TRANSACTION_TIMEOUT_S": "3",
    }
    fate = random.Random(7)
    staying, dying = (Worker("tests.process.apps.pricing", name, tmp_path, environment) for name in "ab")
    told: Counter[str] = Counter()
    known: dict[str, int] = {}
    tokens: dict[str, str] = {}
    async with httpx.AsyncClient(timeout=15.0) as client, running(staying, dying):
        for turn in range(TURNS):
            product = f"p{fate.randrange(PRODUCTS)}"
            known[product] = turn + 1
            tokens[product] = await post(client, staying, product, turn + 1)
            told[product] += 1
            if turn == KILL_AT:
                await dying.kill()
                await dying.start()
            asked = dying if dying.is_ready else staying
            assert await read(client, asked, product, tokens[product]) == known[product]
        await dying.until_ready()
        for worker in (staying, dying):
            for product, cents in known.items():
                assert await read(client, worker, product, tokens[product]) == cents
            page = (await worker.get(client, "/prices")).json()
            assert {row["key"]: row["value"] for row in page["rows"]} == known
        async with asyncio.timeout(20):
            while (bills := await _bills(client, staying, dying)) != {
                product[::-1]: {"orders": count, "too_low": 0} for product, count in told.items()
            }:
                assert not any(bill["too_low"] for bill in bills.values()), bills
                await breath(0.1)
        ready = (await staying.get(client, "/readyz")).json()
        assert {state["state"] for state in ready["followed"].values()} == {"serving"}
        for worker in (staying, dying):
            assert await worker.terminate() == 0, worker.tail()
    for worker in (staying, dying):
        status, output = await worker.command("verify", "--json")
        assert status == 0, output
        compared = json.loads(output.splitlines()[-1])
        followed = {row["partition"] for row in compared if row["group"] == "prices.followed"}
        assert followed == {0, 1, 2}
    status, output = await staying.command("tables", "--json")
    assert status == 0, output
    shown = [row for row in json.loads(output.splitlines()[-1]) if row["group"] == "prices.followed"]
    assert [(row["partition"], row["behind"]) for row in shown] == [(0, 0), (1, 0), (2, 0)], output


async def _bills(client: httpx.AsyncClient, *workers: Worker) -> dict[str, dict[str, int]]:
    """The bills, each from a worker that answers for it."""
    found: dict[str, dict[str, int]] = {}
    for worker in workers:
        for number in range(PRODUCTS):
            answer = await worker.get(client, f"/bills/{number}p")
            if answer.status_code == 200:
                found[f"{number}p"] = answer.json()
    return found
