"""`python -m tests.chaos`: kill workers and brokers for as long as it is worth, and compare everything.

What has been lived through and checked is kept in the folder: a run that is interrupted, or has used up
its minutes, goes on where it was when it is called again. The exit status is 0 when nothing differs, even
if cycles are left, and 1 when something does.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from headrace.causes import first_cause
from headrace.testing.kafka_broker import KafkaBroker
from tests.chaos.fates import FATES, Cycle, Figures
from tests.chaos.progress import Progress, ProgressFile
from tests.chaos.world import World, open_world
from tests.kafka_fixture import kafka_lib

_STRETCH = 25
"""Cycles between two checks."""


def main() -> int:
    """Live through what is left; the result is the exit status."""
    options = _options()
    if (reason := KafkaBroker.unavailable_reason(kafka_lib())) is not None:
        print(f"Chaos needs a real Kafka: {reason}", file=sys.stderr)
        return 1
    file = ProgressFile(options.folder)
    progress = file.load(options.seed)
    sitting = Sitting(progress, file, time.monotonic() + 60 * options.minutes)
    names = [options.part] if options.part else list(FATES)
    for name in names:
        wanted = FATES[name].cycles if options.cycles is None else options.cycles
        try:
            asyncio.run(sitting.live(name, wanted))
        except Exception as error:  # noqa: BLE001  (it is told, and ends the run)
            (sitting.folder / "failure.txt").write_text("".join(traceback.format_exception(error)))
            cause = first_cause(error)
            told = str(cause).partition("\n")[0]
            print(f"{name}: FAILED: {type(cause).__name__}: {told}", file=sys.stderr)
            print(f"Where it failed, and what the workers wrote, is in {sitting.folder}", file=sys.stderr)
            return 1
    return _report(progress, names, options.cycles)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--part", choices=FATES, help="only cycles of this kind (default: all)")
    parser.add_argument("--cycles", type=int, help="how many of each kind (default: as many as the kind has)")
    parser.add_argument("--minutes", type=float, default=40.0, help="of this sitting, at most (default: 40)")
    parser.add_argument("--folder", type=Path, default=Path(".cache/chaos"), help="where progress is kept")
    parser.add_argument("--seed", type=int, default=20261128, help="of a run that begins (default: 20261128)")
    return parser.parse_args()


class Sitting:
    """One call of the program: some stretches of what is left."""

    def __init__(self, progress: Progress, file: ProgressFile, until_s: float) -> None:
        self._progress = progress
        self._file = file
        self._until_s = until_s
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-chaos-"))
        """Data folders of the workers, and what they wrote."""

    async def live(self, name: str, wanted: int) -> None:
        """Live through cycles of one kind until there were as many as wanted, or the time is over."""
        tally, fate, seed = self._progress.tally(name), FATES[name], self._progress.seed
        if tally.cycles >= wanted or time.monotonic() > self._until_s:
            return
        dice = random.Random(f"{seed}/{name}/{tally.cycles}/reads")
        folder = self.folder / name
        folder.mkdir()
        async with open_world(
            folder, dice=dice, is_cluster=fate.is_cluster, is_static=fate.is_static, settings=fate.settings
        ) as world:
            stretch_s = 0.0
            while tally.cycles < wanted and time.monotonic() + stretch_s < self._until_s:
                began_s = time.monotonic()
                await self._stretch(world, name, min(_STRETCH, wanted - tally.cycles))
                stretch_s = time.monotonic() - began_s
                print(
                    f"{name}: {tally.cycles} of {wanted}, {stretch_s:.0f} s, {tally.events:,} events",
                    flush=True,
                )

    async def _stretch(self, world: World, name: str, count: int) -> None:
        tally, seed = self._progress.tally(name), self._progress.seed
        began_s, events = time.monotonic(), world.load.events
        cycles = [Cycle(name, tally.cycles + at, seed) for at in range(count)]
        await world.stretch([cycle.live for cycle in cycles])
        figures: Figures = {}
        for cycle in cycles:
            for figure, values in cycle.figures.items():
                figures.setdefault(figure, []).extend(values)
        tally.add(count, world.load.events - events, time.monotonic() - began_s, figures)
        self._file.keep(self._progress)


def _report(progress: Progress, names: list[str], cycles: int | None) -> int:
    left = []
    for name in names:
        tally = progress.tally(name)
        wanted = FATES[name].cycles if cycles is None else cycles
        if tally.cycles < wanted:
            left.append(f"{wanted - tally.cycles} {name}")
        if tally.cycles:
            print(
                f"{name}: {tally.cycles} cycles, {tally.events:,} events, {tally.checks} times compared, "
                f"{tally.seconds / 60:.0f} min: nothing lost, nothing doubled"
            )
            for line in tally.told():
                print(f"  {line}")
    if left:
        print(f"Left: {', '.join(left)}. The same command goes on.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
