"""`python -m bench.commits`: what a commit costs with an epoch per owner, and with one per transaction.

Two writers take turns on one broker, so that whatever else the machine does befalls both. A unit is two
partitions with 20 records each, once right behind the unit before, once after a pause.
"""

import argparse
import asyncio
import time
import uuid

from bench.broker import broker
from headrace.events.position import TopicPartition
from headrace.log.kafka.log import KafkaLog
from headrace.log.kafka.transactions import Scheme
from headrace.log.port import Append, Outgoing, TopicSpec, Writer
from headrace.settings import Settings

_RECORDS = 20
_TURN = 5
_PAUSES_S = (0.0, 0.05)


async def turn(writer: Writer, places: list[TopicPartition], pause_s: float) -> list[float]:
    """Seconds of some commits; the first, which follows another writer's turn, is left out."""
    records: list[Outgoing] = [(b"key", b"x" * 100, (), int(time.time() * 1000))] * _RECORDS
    taken_s = []
    for _ in range(_TURN):
        await asyncio.sleep(pause_s)
        begun = time.perf_counter()
        await writer.commit([Append(*place, records) for place in places])
        taken_s.append(time.perf_counter() - begun)
    return taken_s[1:]


async def compare(address: str, turns: int, pause_s: float) -> None:
    """Print the quartiles of both."""
    logs = [KafkaLog(Settings(), address=address, newest_scheme=scheme) for scheme in Scheme]
    for log in logs:
        await log.open()
    topic = f"commits-{uuid.uuid4().hex[:8]}"
    await logs[0].provision([TopicSpec(name=topic, partitions=4)])
    writers = [await log.writer(f"{topic}-{number}") for number, log in enumerate(logs)]
    places = [[TopicPartition(topic, 2 * n), TopicPartition(topic, 2 * n + 1)] for n in range(2)]
    taken_s: list[list[float]] = [[], []]
    for _ in range(turns):
        for number, writer in enumerate(writers):
            taken_s[number] += await turn(writer, places[number], pause_s)
    for scheme, taken in zip(Scheme, taken_s, strict=True):
        taken.sort()
        quarter, half = (taken[len(taken) * part // 4] * 1000 for part in (1, 2))
        print(
            f"{pause_s * 1000:.0f} ms between units, {scheme.name}: p25 {quarter:.2f} ms, p50 {half:.2f} ms"
        )
    await asyncio.gather(*(writer.close() for writer in writers))
    await asyncio.gather(*(log.close() for log in logs))


def main() -> None:
    """Compare on a broker of its own, or on the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="", help="host:port of a broker with transaction.version 2")
    parser.add_argument("--turns", type=int, default=100)
    arguments = parser.parse_args()
    with broker(arguments.broker) as address:
        for pause_s in _PAUSES_S:
            asyncio.run(compare(address, arguments.turns, pause_s))


if __name__ == "__main__":
    main()
