"""The lock: each package that `.[dev]` needs, by version and hash; `make lock` writes it, a test compares."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYPROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "requirements.lock"
PYTHONS = ("3.11", "3.12", "3.13")
_COMPILE = (
    *("pip", "compile", "--quiet", "--extra", "dev", "--universal", "--generate-hashes"),
    *("--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"),
)
_PIN = re.compile(r"(?P<requirement>[^ ]+==[^ ]+(?: ; .*?)?)(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)")


class Pin(NamedTuple):
    """One package of the lock: its version, and where it is installed."""

    name: str
    version: str
    requirement: Requirement

    def is_for(self, environment: dict[str, str]) -> bool:
        """Whether it is installed there."""
        return self.requirement.marker is None or self.requirement.marker.evaluate(environment)


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def project() -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads(PYPROJECT.read_text("utf-8"))


def asked_for(document: dict[str, Any] | None = None) -> str:
    """A digest of all that the lock is made of."""
    read = project() if document is None else document
    declared = read["project"]
    parts = [
        declared["requires-python"],
        sorted(declared["dependencies"]),
        {extra: sorted(found) for extra, found in declared["optional-dependencies"].items()},
        sorted(read["build-system"]["requires"]),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def header() -> str:
    """The first lines of the lock."""
    return f"# Written by `make lock`. What it was made of: sha256 {asked_for()}\n"


def lines(text: str) -> Iterator[str]:
    """The entries of a lock, each on one line."""
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        if line and not line.startswith("#"):
            yield line


def pins(text: str) -> list[Pin]:
    """The packages of a lock. Raises: ValueError for a line that is no package with its hashes."""
    found = []
    for line in lines(text):
        match = _PIN.fullmatch(line)
        if match is None:
            raise ValueError(f"not a package with a version and hashes: {line[:80]}")
        requirement = Requirement(match["requirement"])
        version = str(requirement.specifier).removeprefix("==")
        found.append(Pin(canonical(requirement.name), version, requirement))
    return found


def wanted(extra: str) -> Iterator[Requirement]:
    """What an extra needs, with the extras of this project that it names."""
    declared = project()["project"]
    for text in declared["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == declared["name"]:
            for other in requirement.extras:
                yield from wanted(other)
        else:
            yield requirement


def renew(*, upgrades: bool) -> None:
    """Write the lock anew; what it has stays as it is unless it has to change, or `upgrades`."""
    command = [*_COMPILE, "--python-version", PYTHONS[0], *(["--upgrade"] if upgrades else [])]
    subprocess.run(
        [sys.executable, "-m", "uv", *command, "--output-file", str(LOCK), str(PYPROJECT)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    LOCK.write_text(header() + LOCK.read_text("utf-8"), "utf-8")


if __name__ == "__main__":
    renew(upgrades=os.environ.get("UPGRADE", "0") not in ("", "0"))
