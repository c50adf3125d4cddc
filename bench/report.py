"""What a comparison came to: a table for people, and a file with all of it."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from bench.contenders import CONTENDERS, HEADRACE_KAFKA, Measurement
from bench.environments import QUIX_VERSION
from bench.orders import Orders
from headrace.testing.kafka_broker import VERSION as KAFKA_VERSION


@dataclass(slots=True)
class Results:
    """Measurements by contender, in order of rounds; and who did not finish, with the reason."""

    measured: dict[str, list[Measurement]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, measurement: Measurement) -> None:
        """Keep one measurement."""
        self.measured.setdefault(name, []).append(measurement)

    @property
    def inexact(self) -> list[str]:
        """Contenders with a sum that is not what the events come to."""
        return [name for name, runs in self.measured.items() if not all(map(is_exact, runs))]

    def table(self) -> str:
        """One line per contender: rates with their range, CPU, the ratio to headrace, the sum's verdict."""
        own = self._rate(HEADRACE_KAFKA)
        lines = [("", "guarantee", "events", "events/s", "range", "CPU s/1M", "headrace x", "sum")]
        for name, runs in self.measured.items():
            rates = [run.events / run.seconds for run in runs]
            cpu = median(run.cpu_seconds / run.events * 1e6 for run in runs)
            ratio = f"{own / median(rates):.2f}" if own else "-"
            verdict = "exact" if all(map(is_exact, runs)) else "WRONG"
            spread = f"{min(rates):,.0f}-{max(rates):,.0f}"
            guarantee = CONTENDERS[name].guarantee
            rate = f"{median(rates):,.0f}"
            lines.append((name, guarantee, f"{runs[0].events:,}", rate, spread, f"{cpu:.2f}", ratio, verdict))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = [_row(line, widths) for line in lines]
        rows += [
            f"{name}: did not finish: {reason.partition(chr(10))[0]}" for name, reason in self.failed.items()
        ]
        return "\n".join(rows)

    def save(self, folder: Path, *, label: str) -> Path:
        """Write everything to a new file in the folder, with what it takes to repeat it."""
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC)
        path = folder / f"{now:%Y-%m-%dT%H%M%SZ}-{label}.json"
        content = {
            "date": now.isoformat(timespec="seconds"),
            "command": " ".join(["python -m bench", *sys.argv[1:]]),
            "machine": _machine(),
            "versions": _versions(),
            "measured": {
                name: [
                    {**asdict(run), "events_per_second": run.events / run.seconds, "is_exact": is_exact(run)}
                    for run in runs
                ]
                for name, runs in self.measured.items()
            },
            "failed": self.failed,
        }
        path.write_text(json.dumps(content, indent=2) + "\n")
        return path

    def _rate(self, name: str) -> float | None:
        runs = self.measured.get(name)
        return median(run.events / run.seconds for run in runs) if runs else None


def is_exact(run: Measurement) -> bool:
    """Whether a run's table sums up to what its events come to."""
    return run.total == Orders(run.events).expected_sum()


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    texts = [
        cell.ljust(width) if at < 2 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(texts).rstrip()


def _machine() -> Mapping[str, Any]:
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpus if line.startswith("model name")), "")
    return {"system": platform.platform(), "cpu": model, "cores": os.cpu_count()}


def _versions() -> Mapping[str, str]:
    packages = ("headrace", "aiokafka", "faust-streaming", "rocksdict", "msgspec", "uvicorn")
    return {
        "commit": _said(["git", "rev-parse", "--short", "HEAD"]),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "kafka-streams": KAFKA_VERSION,
        "java": _said(["java", "-version"]).partition("\n")[0],
        "quixstreams": QUIX_VERSION,
        **{package: version(package) for package in packages},
    }


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (done.stdout or done.stderr).strip()
