"""Reads that ask for a position, on a real broker: open transactions, their markers, and other producers."""

from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

import headrace
from headrace.events.token import Token
from headrace.http.application import build_application
from headrace.log.kafka.log import KafkaLog
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from tests.service import quick, running

LATEST = {"Headrace-Consistency": "latest"}


def service() -> tuple[headrace.App, headrace.Topic[str, int]]:
    """A table that counts what arrives."""
    app = headrace.App("till")
    buys: headrace.Topic[str, int] = app.topic("till.buys", key_type=str, value_type=int, partitions=1)
    spent: headrace.Table[str, int] = app.Table("spent", key_type=str, default=int)
    app.serve(spent, "/spent")

    @app.agent(buys)
    async def add_up(events: headrace.Stream[int]) -> None:
        async for event in events.events():
            spent[event.key] += event.value

    return app, buys


@pytest.mark.kafka
async def test_reads_wait_for_commits_and_markers_and_name_an_open_transaction(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    app, buys = service()
    settings = quick(data=str(tmp_path), instance="one", log=f"kafka://{own_broker.address}")
    log = KafkaLog(Settings(log=settings.log), address=own_broker.address)
    producer = AIOKafkaProducer(bootstrap_servers=own_broker.address, transactional_id="others")
    async with running(app, log=log, settings=settings) as till:
        transport = httpx.ASGITransport(build_application(till.runtime))
        async with httpx.AsyncClient(transport=transport, base_url="http://till") as http:
            for amount in range(1, 6):
                # Sent here, read there: the token is all that tells one of the other.
                sent = await till.send(buys, amount, key="ann")
                token = Token.of(sent.position, till.runtime.catalog).text()
                answer = await http.get("/spent/ann", headers={"Headrace-Position": token})
                assert (answer.status_code, answer.json()) == (200, sum(range(amount + 1)))
                assert "Headrace-Unproven" not in answer.headers
            assert (await http.get("/spent/ann", headers=LATEST)).json() == 15

            await producer.start()
            await producer.begin_transaction()
            pending = await producer.send_and_wait("till.buys", b"100", key=b"ann", partition=0)
            answer = await http.get("/spent/ann", headers={**LATEST, "Prefer": "wait=0.5"})
            assert (answer.status_code, answer.json()["error"]) == (503, "NotReached")
            assert f"open at till.buys/0@{pending.offset} is in the way" in answer.json()["detail"]
            assert (await http.get("/spent/ann")).json() == 15
            await producer.abort_transaction()
            # Nothing but markers brings this: no event follows.
            answer = await http.get("/spent/ann", headers=LATEST)
            assert (answer.status_code, answer.json()) == (200, 15)

            await producer.begin_transaction()
            await producer.send_and_wait("till.buys", b"7", key=b"ann", partition=0)
            await producer.commit_transaction()
            assert (await http.get("/spent/ann", headers=LATEST)).json() == 22
            await producer.stop()

            untrue = Token.of(
                headrace.Position({headrace.TopicPartition("till.buys", 0): 10_000}), till.runtime.catalog
            )
            answer = await http.get("/spent/ann", headers={"Headrace-Position": untrue.text()})
            assert (answer.status_code, answer.json()["error"]) == (409, "UntrueToken")
