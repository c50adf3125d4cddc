"""Broken events by the ten thousand: each is applied, or found among the dead letters as it was."""

import asyncio
import itertools
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from app.catalogue import departments
from app.client import Client
from app.grocery import GroceryYear, load_year
from headrace.events.envelope import Envelope, Headers, encode_envelope, fresh_event_id
from headrace.events.partitioner import Partitioner
from headrace.events.position import TopicPartition
from headrace.flow.deadletter import Letter
from headrace.log.connect import connect
from headrace.log.port import Append, Log, Outgoing, Writer
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from tests.process.mutations import Mutator
from tests.process.plain import Checkout, Loyalty, Plain, Promotions, moment
from tests.process.plain_envelope import Refused
from tests.process.records import Record, read_letters, read_records
from tests.process.workers import Worker, running, until_covered

logger = logging.getLogger(__name__)

SEED = 20261124
MUTATIONS = int(os.environ.get("HEADRACE_TEST_MUTATIONS", "6000"))
PARTITIONS = 8
BASKETS, PROMOTIONS, CORRECTIONS = "checkout.events", "promotions.events", "loyalty.events"
INPUTS = {
    "checkout": (BASKETS,),
    "loyalty": (BASKETS, PROMOTIONS),
    "promotions": (PROMOTIONS, CORRECTIONS),
}
REFUSALS = {
    "MalformedStamp",
    "UnknownRedemption",
    "DecodeError",
    "ForeignKey",
    "UnencodableValue",
    "AttributeError",
    "TypeError",
}
"""What the services may say of a bad event, by the name of the error."""
_BATCH = 250
_FIRST_MS = int(time.time() * 1000) - MUTATIONS
"""Before anything that services send, and not so old that the broker's retention takes it away."""


class Fact(NamedTuple):
    """A valid event, as its sender would write it."""

    key: bytes
    value: bytes


@pytest.mark.kafka
@pytest.mark.timeout(900)
async def test_every_mutated_event_is_applied_or_a_dead_letter_of_each_service_that_reads_it(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    settings = {"HEADRACE_LOG": f"kafka://{own_broker.address}"}
    crew = {name: Worker(f"app.{name}", name, tmp_path, settings, by_faust=False) for name in INPUTS}
    log = connect(Settings(log=settings["HEADRACE_LOG"]))
    await log.open()
    try:
        async with httpx.AsyncClient(timeout=30.0) as client, running(*crew.values()):
            began, year = time.monotonic(), load_year()
            poison = Poison(await log.writer("tills"), Mutator(SEED))
            # What loyalty makes of a redemption depends on the baskets that it has seen by then.
            await poison.append(BASKETS, _baskets(year), MUTATIONS * 6 // 10)
            await _until_applied(client, crew, log, BASKETS)
            await poison.append(PROMOTIONS, _promotions(year), MUTATIONS * 3 // 10)
            await _until_applied(client, crew, log, PROMOTIONS)
            corrections = await read_records(log, CORRECTIONS)
            await poison.append(CORRECTIONS, _again(corrections), MUTATIONS // 10)
            await _until_applied(client, crew, log, CORRECTIONS)
            await poison.close()
            seconds = time.monotonic() - began

            inputs = {topic: await read_records(log, topic) for topic in (BASKETS, PROMOTIONS, CORRECTIONS)}
            poison.check(record for records in inputs.values() for record in records)
            checkout, loyalty, promotions = Checkout(), Loyalty(departments()), Promotions()
            for name, model in {"checkout": checkout, "loyalty": loyalty, "promotions": promotions}.items():
                records = [record for topic in INPUTS[name] for record in inputs[topic]]
                letters = await read_letters(log, name)
                _check_letters(name, letters, records, _refused(model, records, letters))
                await _check_undisturbed(client, crew[name], len(records) - len(letters), len(letters))
                errors = Counter(letter.error for letter in letters)
                logger.info("%s: %d records, dead letters: %s", name, len(records), dict(errors))
            assert Counter(map(_said, corrections)) == Counter(map(_owed, loyalty.corrections))
            await asyncio.to_thread(_check_tables, crew, checkout, loyalty, promotions)
            logger.info("seed %d: %d mutated events in %.1f s", SEED, poison.mutated, seconds)
            for worker in crew.values():
                assert await worker.terminate() == 0, worker.tail()
                assert not [line for line in worker.lines if "Traceback" in line], worker.tail()
    finally:
        await log.close()


# --- what goes in


class Poison:
    """Appends mutated events, each followed by a valid one in its partition."""

    def __init__(self, writer: Writer, mutator: Mutator) -> None:
        self._writer = writer
        self._mutator = mutator
        self._sent: dict[TopicPartition, list[Outgoing]] = {}
        self.mutated = 0

    async def append(self, topic: str, facts: Sequence[Fact], count: int) -> None:
        """Append this many mutated events, and as many valid ones."""
        homes: dict[int, list[Fact]] = {}
        for fact in facts:
            homes.setdefault(_home(fact.key), []).append(fact)
        followers = {home: itertools.cycle(here) for home, here in homes.items()}
        chosen = itertools.islice(itertools.cycle(facts), count)
        while batch := list(itertools.islice(chosen, _BATCH)):
            appends: dict[TopicPartition, list[Outgoing]] = {}
            for fact in batch:
                at_ms = _FIRST_MS + self.mutated
                key, value, headers = self._mutator.mutate(*fact, _envelope(at_ms))
                # Without a key it stays where it was; any other key says by itself where it belongs.
                home = _home(fact.key if key is None else key)
                valid = (*next(followers[home]), _envelope(at_ms), at_ms)
                appends.setdefault(TopicPartition(topic, home), []).extend(
                    ((key, value, tuple(headers), at_ms), valid)
                )
                self.mutated += 1
            await self._writer.commit([Append(*place, records) for place, records in appends.items()])
            for place, records in appends.items():
                self._sent.setdefault(place, []).extend(records)

    async def close(self) -> None:
        """Append no more."""
        assert self.mutated == MUTATIONS
        await self._writer.close()

    def check(self, records: Iterable[Record]) -> None:
        """What was appended is in the log as it was, in that order; what services sent is left out."""
        found: dict[TopicPartition, list[Outgoing]] = {}
        for record in records:
            if record.timestamp_ms < _FIRST_MS + MUTATIONS:
                found.setdefault(record.place, []).append(record.content)
        assert found == self._sent


def _home(key: bytes) -> int:
    return Partitioner.MURMUR2.place(key, PARTITIONS)


def _envelope(at_ms: int) -> Headers:
    return encode_envelope(Envelope(fresh_event_id(), at_ms))


def _baskets(year: GroceryYear) -> Sequence[Fact]:
    baskets = year.baskets[: max(MUTATIONS, 5_000)]
    return [Fact(b"%d" % basket.household_id, msgspec.json.encode(basket)) for basket in baskets]


def _promotions(year: GroceryYear) -> Sequence[Fact]:
    campaigns = [Fact(b"%d" % each.campaign_id, msgspec.json.encode(each)) for each in year.campaigns]
    redeemed = [Fact(b"%d" % each.household_id, msgspec.json.encode(each)) for each in year.redemptions]
    return [*campaigns, *redeemed]


def _again(records: Sequence[Record]) -> Sequence[Fact]:
    return [Fact(record.key or b"", record.value or b"") for record in records]


async def _until_applied(client: httpx.AsyncClient, crew: Mapping[str, Worker], log: Log, topic: str) -> None:
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    held = await log.offsets(places)
    ends = {f"{place.topic}/{place.partition}": held[place].end for place in places}
    for name, worker in crew.items():
        if topic in INPUTS[name]:
            await until_covered(client, [worker], ends, timeout_s=400.0)


# --- what came of it


Places = Mapping[tuple[TopicPartition, int], str]
"""Topic, partition and offset of events, and what there is against them."""


def _refused(model: Plain, records: Iterable[Record], letters: Sequence[Letter]) -> Places:
    """Fold what the model takes; what it does not take."""
    refused: dict[tuple[TopicPartition, int], str] = {}
    dead = {_source(letter) for letter in letters}
    for record in records:
        at = record.place, record.offset
        try:
            model.apply(*at, record.key, record.value, record.headers, is_dead=at in dead)
        except Refused as why:
            refused[at] = str(why)
    return refused


def _source(letter: Letter) -> tuple[TopicPartition, int]:
    return TopicPartition(letter.topic, letter.partition), letter.offset


def _check_letters(app: str, letters: Sequence[Letter], records: Sequence[Record], refused: Places) -> None:
    """Exactly what the model refuses is a dead letter, once, as it was."""
    found = {_source(letter): letter for letter in letters}
    assert len(found) == len(letters), "an event is two dead letters"
    sent = {(record.place, record.offset): record for record in records}
    lost = {place: (why, sent[place]) for place, why in refused.items() if place not in found}
    extra = {place: (letter.reason, sent[place]) for place, letter in found.items() if place not in refused}
    assert not lost, f"{app} applied {len(lost)}: {next(iter(lost.items()))}"
    assert not extra, f"{app} refused {len(extra)}: {next(iter(extra.items()))}"
    for place, letter in found.items():
        content = letter.key, letter.value, letter.headers, letter.timestamp_ms
        assert content == sent[place].content, letter
        assert letter.reason, letter
        assert letter.group == "main"
    assert {letter.error for letter in letters} <= REFUSALS


async def _check_undisturbed(client: httpx.AsyncClient, worker: Worker, applied: int, dead: int) -> None:
    """The worker runs on since its start: no task of it ever failed, and its figures add up."""
    page = (await worker.get(client, "/metrics")).text
    samples = [line.rsplit(" ", 1) for line in page.splitlines() if line and not line.startswith("#")]

    def total(name: str) -> int:
        return sum(int(float(value)) for sample, value in samples if sample.split("{")[0] == name)

    assert total("headrace_takeovers_total") == PARTITIONS
    assert total("headrace_task_failures_total") == 0
    assert total("headrace_dead_letters_total") == dead
    assert total("headrace_events_total") == applied


def _said(record: Record) -> tuple[Any, ...]:
    event = json.loads(record.value or b"")
    return tuple(event[name] for name in ("corrects", "household_id", "coupon_upc", "campaign_id", "day"))


def _owed(correction: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        correction[name] for name in ("corrects", "household_id", "coupon_upc", "campaign_id", "day")
    )


def _check_tables(
    crew: Mapping[str, Worker], checkout: Checkout, loyalty: Loyalty, promotions: Promotions
) -> None:
    """Every row over HTTP == the model's."""
    receipts = {key: row | {"at": moment(row["at"])} for key, row in checkout.receipts.items()}
    rows = _rows(crew["checkout"], "/receipts")
    assert {key: row | {"at": moment(row["at"])} for key, row in rows} == receipts
    assert dict(_rows(crew["loyalty"], "/balances")) == loyalty.balances
    assert dict(_rows(crew["loyalty"], "/departments")) == loyalty.spend
    assert dict(_rows(crew["loyalty"], "/redemptions")) == loyalty.redemptions
    assert dict(_rows(crew["promotions"], "/campaigns")) == promotions.campaigns
    assert dict(_rows(crew["promotions"], "/coupons")) == promotions.coupons
    assert receipts
    assert loyalty.redemptions
    assert promotions.campaigns
    assert promotions.coupons


def _rows(worker: Worker, path: str) -> Iterator[tuple[Any, Any]]:
    with closing(Client(worker.address)) as client:
        yield from client.rows(path)
