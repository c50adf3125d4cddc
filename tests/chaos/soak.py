"""`python -m tests.chaos.soak`: half the full speed for an hour; what a worker holds must not grow.

The worker's cache of blocks is so small that it is full by the end of the warm-up.
The exit status is 1 when memory grows by 1 MiB an hour or more after the warm-up, when file descriptors
grow, or when something was lost or doubled.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.storm import PARTITIONS
from tests.chaos.world import World, open_world
from tests.process.workers import breath

_KEYS_PER_PARTITION = 1_000
_FULL_TICK_NUMBERS = 1_000 * PARTITIONS
_FULL_S = 20.0
_CATCH_UP_TIMEOUT_S = 180.0
"""The load and its broker may be faster than the worker."""
_TICK_S = 0.1
_SAMPLE_S = 5.0
_TELL_SAMPLES = 12
_WARM_UP_SHARE = 0.25
_SLOPE_MAX_KIB = 1024
_KIB = 1024
_FULL_CACHE = {"HEADRACE_ROCKSDB_CACHE_BYTES": str(1 << 20)}
"""RocksDB keeps blocks of files that are gone until its cache is full: some 5 MiB an hour, up to 256 MiB.

So small it is full before the warm-up is over, and all growth that is left is growth without a bound.
"""


class Sample(NamedTuple):
    """What a process holds at one moment."""

    at_s: float
    rss_kib: int
    fds: int


def sample(pid: int) -> Sample:
    """What this process holds now, from /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    (rss,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return Sample(time.monotonic(), int(rss), len(list(Path(f"/proc/{pid}/fd").iterdir())))


def slope_per_h(samples: Sequence[Sample], values: Sequence[float]) -> float:
    """How much a value grows in an hour, by least squares."""
    return statistics.linear_regression([each.at_s / 3600 for each in samples], values).slope


def main() -> int:
    """Soak one worker and tell what it held; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as folder:
        return asyncio.run(_soak(Path(folder), 60 * options.minutes))


async def _soak(folder: Path, seconds: float) -> int:
    async with open_world(
        folder,
        dice=random.Random(1),
        workers=1,
        keys_per_partition=_KEYS_PER_PARTITION,
        settings=_FULL_CACHE,
    ) as world:
        rate = await _full_speed(world)
        print(f"full speed: {rate:,.0f} events/s, with load and broker on the same machine", flush=True)
        world.load.pace(numbers_per_tick=int(rate / 2 * _TICK_S), tick_s=_TICK_S)
        events, began_s = world.load.events, time.monotonic()
        samples: list[Sample] = []
        await world.stretch([lambda world: _watch(world, samples, seconds)])
        rate = (world.load.events - events) / (samples[-1].at_s - began_s)
    return _report(samples, world.load.events, rate)


async def _full_speed(world: World) -> float:
    """Events per second that are appended and handled when nobody waits."""
    world.load.pace(numbers_per_tick=_FULL_TICK_NUMBERS, tick_s=0.0)
    began_s = time.monotonic()
    while time.monotonic() - began_s < _FULL_S:
        await world.load.tick()
    await world.until_covered(world.crew, _CATCH_UP_TIMEOUT_S)
    return world.load.events / (time.monotonic() - began_s)


async def _watch(world: World, samples: list[Sample], seconds: float) -> None:
    (worker,) = world.crew
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        samples.append(sample(worker.pid))
        if len(samples) % _TELL_SAMPLES == 1:
            latest = samples[-1]
            print(
                f"{(latest.at_s - samples[0].at_s) / 60:5.1f} min: {latest.rss_kib / _KIB:.1f} MiB, "
                f"{latest.fds} file descriptors, {world.load.events:,} events",
                flush=True,
            )
        await breath(_SAMPLE_S)


def _report(samples: Sequence[Sample], events: int, rate: float) -> int:
    warm = samples[int(len(samples) * _WARM_UP_SHARE) :]
    slope = slope_per_h(warm, [each.rss_kib for each in warm])
    fds = [each.fds for each in warm]
    fds_slope = slope_per_h(warm, [float(each) for each in fds])
    print(
        f"{(samples[-1].at_s - samples[0].at_s) / 60:.0f} min at {rate:,.0f} events/s, {events:,} events, "
        f"nothing lost, nothing doubled; after {(warm[0].at_s - samples[0].at_s) / 60:.0f} min of warm-up: "
        f"memory {warm[0].rss_kib / _KIB:.1f} -> {warm[-1].rss_kib / _KIB:.1f} MiB, "
        f"{slope / _KIB:+.2f} MiB/h; file descriptors {min(fds)}-{max(fds)}, {fds_slope:+.1f}/h"
    )
    return 0 if slope < _SLOPE_MAX_KIB and fds_slope < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
