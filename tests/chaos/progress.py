"""How far `make chaos` is: kept in a folder, so that it can be interrupted and go on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec


class Tally(msgspec.Struct):
    """The cycles of one kind that were lived through and checked."""

    cycles: int = 0
    checks: int = 0
    """How often everything was compared."""
    events: int = 0
    seconds: float = 0.0
    figures: dict[str, list[float]] = {}

    def add(self, cycles: int, events: int, seconds: float, figures: Mapping[str, Sequence[float]]) -> None:
        """Note a stretch whose check has passed."""
        self.cycles += cycles
        self.checks += 1
        self.events += events
        self.seconds += seconds
        for name, values in figures.items():
            self.figures.setdefault(name, []).extend(values)

    def told(self) -> list[str]:
        """The figures, one line each."""
        return [_told(name, sorted(values)) for name, values in sorted(self.figures.items())]


class Progress(msgspec.Struct):
    """Everything that a later sitting must know."""

    seed: int
    tallies: dict[str, Tally] = {}

    def tally(self, name: str) -> Tally:
        """The tally of one kind."""
        return self.tallies.setdefault(name, Tally())


class ProgressFile:
    """The file in the folder; a cycle counts once what came out of it has been checked."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.json"

    def load(self, seed: int) -> Progress:
        """What was kept; a fresh start with this seed where there is nothing."""
        if not self._path.exists():
            return Progress(seed)
        return msgspec.json.decode(self._path.read_bytes(), type=Progress)

    def keep(self, progress: Progress) -> None:
        """Replace what is kept, as a whole."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(progress)))
        fresh.replace(self._path)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that is at least as large as this share of the values, which are in order."""
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _told(name: str, ordered: Sequence[float]) -> str:
    if name == "moves":
        return f"{sum(ordered):,.0f} partitions moved"
    shown = ", ".join(f"{label} {percentile(ordered, share):.2f} s" for label, share in _SHARES)
    return f"{name}: {shown} ({len(ordered)} times)"


_SHARES = (("median", 0.5), ("p95", 0.95), ("longest", 1.0))
