"""`make sim`: live through many worlds, on all cores; how often each step was somebody's last is told."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.worlds.live import REPLAY, lived, uncollected
from tests.simulation.worlds.steps import Step

_BLOCK = 20
_HITS_MIN = 100
_HITS_PER_SEED = _HITS_MIN / 10_000


@dataclass
class Sum:
    """What some worlds had in them."""

    worlds: int = 0
    handled: int = 0
    units: int = 0
    looks: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: "Sum") -> None:
        """Count others, too."""
        self.worlds += other.worlds
        self.handled += other.handled
        self.units += other.units
        self.looks += other.looks
        self.hits += other.hits
        self.troubles += other.troubles
        self.answers += other.answers
        self.failed += other.failed


def _lived(seeds: range) -> Sum:
    found = Sum()
    with uncollected():
        for seed in seeds:
            try:
                life = lived(seed)
            except Exception as error:  # noqa: BLE001  (it is told at the end)
                found.failed.append((seed, f"{type(error).__name__}: {error}"[:400]))
                continue
            found.handled += life.handled
            found.units += life.units
            found.looks += life.looks
            found.hits.update({step.name: count for step, count in life.hits.items()})
            found.troubles += life.troubles
            found.answers += life.answers
    found.worlds = len(seeds)
    return found


def _blocks(begin: int, end: int) -> Iterator[range]:
    return (range(at, min(at + _BLOCK, end)) for at in range(begin, end, _BLOCK))


def main() -> int:
    """The exit status: 0 when nothing was broken and every step was hit often enough."""
    parser = argparse.ArgumentParser(prog="make sim")
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--from", dest="begin", type=int, default=0, help="the first seed: to go on from")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    whole, began = Sum(), time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        for block in pool.map(_lived, _blocks(options.begin, options.begin + options.seeds)):
            whole.add(block)
            for seed, complaint in block.failed:
                print(f"seed {seed} FAILED: {complaint}\n  {REPLAY.format(seed=seed)}", flush=True)
            if not whole.worlds % 200:
                print(
                    f"{whole.worlds} worlds, up to seed {options.begin + whole.worlds - 1}: "
                    f"{len(whole.failed)} failed, {whole.units} units, {time.monotonic() - began:.0f} s",
                    flush=True,
                )
    return _report(whole, options.seeds)


def _report(whole: Sum, seeds: int) -> int:
    hits_min = max(1, int(seeds * _HITS_PER_SEED)) if seeds < 10_000 else _HITS_MIN
    print("\nworkers that died at each step")
    rare = []
    for step in Step:
        count = whole.hits[step.name]
        rare += [step.name] if count < hits_min else []
        print(f"{count:8} {step.name:18} {step.value}")
    print("\ntroubles: " + ", ".join(f"{count} {kind}" for kind, count in whole.troubles.most_common()))
    print("answers: " + ", ".join(f"{count} {kind}" for kind, count in whole.answers.most_common()))
    print(
        f"{whole.worlds} worlds: {whole.handled} events in {whole.units} units, {whole.looks} looks, "
        f"{len(whole.failed)} broken"
    )
    for seed, complaint in whole.failed:
        print(f"  seed {seed}: {complaint}")
    if rare:
        print(f"hit less than {hits_min} times: {', '.join(rare)}")
    return 1 if rare or whole.failed else 0


if __name__ == "__main__":
    sys.exit(main())
