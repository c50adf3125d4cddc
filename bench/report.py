"""What a comparison came to: tables for people, and a file with all of it."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from bench.cases import CASES, Case
from bench.contenders import CONTENDERS, HEADRACE_KAFKA
from bench.course import Measurement
from bench.environments import CONFLUENT_VERSION, QUIX_VERSION
from headrace.testing.kafka_broker import VERSION as KAFKA_VERSION

_HEAD = ("", "guarantee", "events", "events/s", "range", "CPU s/1M", "headrace x", "in CPU x", "sum")


@dataclass(slots=True)
class Results:
    """Measurements by case and contender, in order of rounds; and who did not finish, with the reason."""

    measured: dict[str, dict[str, list[Measurement]]] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, case: str, contender: str, measurement: Measurement) -> None:
        """Keep one measurement."""
        self.measured.setdefault(case, {}).setdefault(contender, []).append(measurement)

    @property
    def inexact(self) -> list[str]:
        """Whose sum is not what the events come to, or of whose outputs some are missing or too many."""
        return [
            f"{case}: {contender}"
            for case, by_contender in self.measured.items()
            for contender, runs in by_contender.items()
            if not all(is_exact(CASES[case], run) for run in runs)
        ]

    def ratio(self, case: str, contender: str, beside: str = "") -> float | None:
        """Rate of headrace on Kafka over that of a contender; `beside`: over its own in another case."""
        return _over(self._rate(case, HEADRACE_KAFKA), self._rate(beside or case, contender))

    def cpu_ratio(self, case: str, contender: str, beside: str = "") -> float | None:
        """The same of events per CPU second."""
        return _over(self._cpu(beside or case, contender), self._cpu(case, HEADRACE_KAFKA))

    def tables(self) -> str:
        """Of each case: rates with their range, CPU, the ratios to headrace and what they are to be."""
        return "\n\n".join("\n".join(self._table(CASES[name])) for name in self.measured)

    def _table(self, case: Case) -> Iterator[str]:
        yield f"{case.name}: {case.what}"
        lines = [_HEAD, *(self._line(case, name) for name in self.measured[case.name])]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        yield from (_row(line, widths) for line in lines)
        if case.beside:
            rate = self.ratio(case.name, HEADRACE_KAFKA, case.beside)
            cpu = self.cpu_ratio(case.name, HEADRACE_KAFKA, case.beside)
            yield (
                f"{_shown(rate, case.beside_at_least)} of the rate, "
                f"{_shown(cpu, case.beside_cpu_at_least)} in CPU, of headrace in the case {case.beside}"
            )
        late = [
            run.loop_late_ms for run in self.measured[case.name].get(HEADRACE_KAFKA, ()) if run.loop_late_ms
        ]
        if late:
            p50, p99 = (max(each) for each in zip(*late, strict=True))
            yield f"its loop was late by at most {p50:g} ms (median) and {p99:g} ms (p99)"
        for (name, contender), reason in self.failed.items():
            if name == case.name:
                yield f"{contender}: did not finish: {reason.partition(chr(10))[0]}"

    def _line(self, case: Case, name: str) -> tuple[str, ...]:
        runs = self.measured[case.name][name]
        rates = [run.events / run.seconds for run in runs]
        return (
            name,
            CONTENDERS[name].guarantee,
            f"{runs[0].events:,}",
            f"{median(rates):,.0f}",
            f"{min(rates):,.0f}-{max(rates):,.0f}",
            f"{self._cpu(case.name, name) or 0:.2f}",
            _shown(self.ratio(case.name, name), case.at_least.get(name, 0)),
            _shown(self.cpu_ratio(case.name, name), case.cpu_at_least.get(name, 0)),
            "exact" if all(is_exact(case, run) for run in runs) else "WRONG",
        )

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
                name: {
                    contender: [_told(CASES[name], run) for run in runs]
                    for contender, runs in by_contender.items()
                }
                for name, by_contender in self.measured.items()
            },
            "failed": {f"{case}: {contender}": reason for (case, contender), reason in self.failed.items()},
        }
        path.write_text(json.dumps(content, indent=2) + "\n")
        return path

    def _rate(self, case: str, name: str) -> float | None:
        runs = self.measured.get(case, {}).get(name)
        return median(run.events / run.seconds for run in runs) if runs else None

    def _cpu(self, case: str, name: str) -> float | None:
        """CPU seconds per million events."""
        runs = self.measured.get(case, {}).get(name)
        return median(run.cpu_seconds / run.events * 1e6 for run in runs) if runs else None


def is_exact(case: Case, run: Measurement) -> bool:
    """Whether a run's table sums up to what its events come to, and all was sent that was to be."""
    sent = run.events if case.job == "outputs" else None
    return run.total == case.orders(run.events).expected_sum() and run.outputs == sent


def _over(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _shown(ratio: float | None, least: float) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:.2f} (at least {least:g})" if least else f"{ratio:.2f}"


def _told(case: Case, run: Measurement) -> Mapping[str, Any]:
    rate = run.events / run.seconds
    return {**asdict(run), "events_per_second": rate, "is_exact": is_exact(case, run)}


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
        "confluent-kafka": CONFLUENT_VERSION,
        **{package: version(package) for package in packages},
    }


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (done.stdout or done.stderr).strip()
