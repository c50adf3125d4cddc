"""`python -m bench.where`: where each microsecond of an event goes, by samples of the worker's own stack.

The plain job in one process, one partition, while the processor's time is sampled every millisecond: each
sample is of the innermost module of headrace, of the job, or of what they stand on. `--svg FILE` draws it.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from types import FrameType

import msgspec

from bench.broker import NoBroker, broker
from bench.filling import fill_kafka
from bench.ingest import ingest, settings_of
from bench.orders import Orders

_SAMPLE_S = 0.001
_STAGES = {
    "read": ("log/kafka/reader.py", "log/kafka/source.py", "log/kafka/records.py", "log/kafka/fetching.py"),
    "admit": ("flow/intake.py", "flow/admission.py", "flow/portion.py"),
    "decode": ("flow/decoding.py",),
    "hand out": ("flow/stream.py", "flow/handling.py", "flow/agent.py"),
    "the agent": ("bench/jobs/orders.py",),
    "its rows": ("tables/table.py", "tables/rows.py", "flow/hand.py", "events/value.py"),
    "seal": ("flow/unit.py", "events/key.py", "flow/causality.py"),
    "commit": ("log/kafka/", "flow/settling.py"),
    "apply": ("flow/applying.py", "tables/rocksdb.py"),
    "the rest of headrace": ("headrace/",),
    "asyncio": ("asyncio/",),
}
"""Stage to the paths that belong to it; the first that fits."""
_COLOURS = ("#2f6f8f", "#4d8fac", "#6eb0c8", "#8f7ab8", "#5a9e6f", "#7fbf7f", "#d9a441", "#c9743d", "#a94f4f")
_GREY = ("#8a8f98", "#b3b8c0", "#d5d9de")
_WIDTH, _BAR_TOP, _BAR, _LINE = 900, 44, 46, 22


class Sampler:
    """Counts by stage what the main thread is at, each millisecond of processor time."""

    def __init__(self) -> None:
        self.samples: Counter[str] = Counter()
        self._stages: dict[str, str | None] = {}

    def start(self) -> None:
        """Begin."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _SAMPLE_S, _SAMPLE_S)

    def stop(self) -> None:
        """End."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        while frame is not None:
            path = frame.f_code.co_filename
            if path not in self._stages:
                self._stages[path] = _stage_of(path)
            if (stage := self._stages[path]) is not None:
                # What encodes rows for the unit, or reads them for the agent, is in one module.
                is_sealing = stage == "its rows" and frame.f_code.co_name in ("encode", "seal", "applied")
                self.samples["seal" if is_sealing else stage] += 1
                return
            frame = frame.f_back
        self.samples["other"] += 1


def _stage_of(path: str) -> str | None:
    """The stage of a module; None for what serves many, whose caller is asked."""
    if "/aiokafka/" in path:
        return "commit" if "/protocol/" in path or path.endswith("conn.py") else None
    return next((stage for stage, parts in _STAGES.items() if any(part in path for part in parts)), None)


def floor_us(orders: Orders) -> float:
    """Microseconds of CPU to decode an order and to add it to a dict, as bare as Python does it."""
    from bench.jobs.orders import OrderPlaced

    decode = msgspec.json.Decoder(OrderPlaced).decode
    raw = [value for _, value, _ in orders]
    quantities: dict[str, int] = {}
    began = time.process_time()
    for value in raw:
        order = decode(value)
        quantities[order.sku] = quantities.get(order.sku, 0) + order.qty
    return (time.process_time() - began) / len(raw) * 1e6


async def _run(address: str, folder: Path, orders: Orders) -> tuple[Sampler, float, float]:
    """Samples, seconds and CPU seconds of one run."""
    from bench.jobs.orders import app
    from bench.jobs.orders import orders as topic

    await fill_kafka(address, topic.name, orders)
    sampler = Sampler()
    before = time.process_time()
    sampler.start()
    try:
        rate, _ = await ingest(app, settings_of(address, "where", folder), orders.events)
    finally:
        sampler.stop()
    return sampler, orders.events / rate, time.process_time() - before


def by_stage(samples: Mapping[str, int], cpu_us: float) -> Iterator[tuple[str, float]]:
    """Microseconds per event of each stage, in the order of an event's way."""
    total = sum(samples.values())
    for stage in (*_STAGES, "other"):
        if samples.get(stage):
            yield stage, samples[stage] / total * cpu_us


def drawing(stages: list[tuple[str, float]], title: str) -> str:
    """The stages of an event as one bar, with a legend, as SVG."""
    total = sum(cost for _, cost in stages)
    height = _BAR_TOP + _BAR + 20 + _LINE * ((len(stages) + 2) // 3)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="DejaVu Sans, Verdana, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="26" font-size="15" fill="#222">{escape(title)}</text>',
    ]
    x = 10.0
    for number, (stage, cost) in enumerate(stages):
        colour = (*_COLOURS, *_GREY)[number]
        width = cost / total * (_WIDTH - 20)
        place = f'x="{x:.1f}" y="{_BAR_TOP}" width="{width:.1f}" height="{_BAR}"'
        parts.append(f'<rect {place} fill="{colour}" stroke="#fff"/>')
        if width > 34:
            at = x + width / 2
            parts.append(
                f'<text x="{at:.1f}" y="{_BAR_TOP + 28}" text-anchor="middle" fill="#fff">{cost:.2f}</text>'
            )
        left, top = 10 + number % 3 * 300, _BAR_TOP + _BAR + 18 + _LINE * (number // 3)
        parts.append(f'<rect x="{left}" y="{top - 11}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{left + 20}" y="{top}" fill="#222">{escape(stage)}: {cost:.2f} us</text>')
        x += width
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    """Measure, print, and draw if a file is named; 1 without a broker."""
    parser = argparse.ArgumentParser(prog="python -m bench.where", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--svg", type=Path, help="where the chart is written")
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    os.environ["BENCH_APP"] = f"where-{os.getpid()}"
    os.environ["BENCH_TOPIC"] = f"where-{os.getpid()}.orders"
    orders = Orders(options.events)
    try:
        with broker(options.broker) as address, tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
            sampler, seconds, cpu_s = asyncio.run(_run(address, Path(name), orders))
    except NoBroker as error:
        print(error, file=sys.stderr)
        return 1
    cpu_us = cpu_s / orders.events * 1e6
    stages = list(by_stage(sampler.samples, cpu_us))
    for stage, cost in stages:
        print(f"{stage:22} {cost:5.2f} us")
    print(
        f"an event takes {cpu_us:.2f} us of CPU, at {orders.events / seconds:,.0f} events/s; "
        f"to decode it and to add it to a dict {floor_us(orders.first(200_000)):.2f} us"
    )
    if options.svg is not None:
        options.svg.write_text(drawing(stages, f"Where the {cpu_us:.1f} us of an event go"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
