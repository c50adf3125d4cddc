"""The bill of materials: what a running worker is made of, as CycloneDX; `make sbom` writes it."""

import json
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

from packaging.requirements import Requirement

from tests.lockfile import PYPROJECT, ROOT, canonical, project

SBOM = ROOT / "dist" / "sbom.json"
SPEC = "1.6"
RUNNING = ("speed", "prometheus", "cli", "otel", "client", "postgres", "sqlalchemy")
"""The extras with which a worker may run; the others are for tests, for building and for the demo."""

Names = dict[str, set[str]]
"""Packages by canonical name, with the extras of each that are needed."""


def needed(requirements: Iterable[Requirement]) -> Names:
    """All packages behind these, as they are installed here."""
    found: Names = {}
    pending = list(requirements)
    while pending:
        requirement = pending.pop()
        name, extras = canonical(requirement.name), set(requirement.extras)
        if name in found and extras <= found[name]:
            continue
        known = found.setdefault(name, set())
        known |= extras
        try:
            further = [Requirement(text) for text in requires(requirement.name) or ()]
        except PackageNotFoundError as error:
            raise SystemExit(f"{requirement} is not installed: run make") from error
        pending += [r for r in further if applies(r, known)]
    return found


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether this requirement counts here, with these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras})


def runtime() -> tuple[Names, Names]:
    """The packages that every worker has, and those that it has with all extras."""
    declared = project()["project"]
    always = [Requirement(text) for text in declared["dependencies"]]
    extras = [Requirement(text) for extra in RUNNING for text in declared["optional-dependencies"][extra]]
    return needed(always), needed([*always, *extras])


def of_environment() -> dict[str, Any]:
    """Everything that is installed here, as cyclonedx-py tells it."""
    what = ["environment", sys.prefix, "--pyproject", str(PYPROJECT), "--mc-type", "application"]
    how = ["--spec-version", SPEC, "--output-format", "JSON", "--output-reproducible", "--no-validate"]
    command = [sys.executable, "-m", "cyclonedx_py", *what, *how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def bill() -> dict[str, Any]:
    """The bill of a worker: tools are left out, and what only extras bring is `optional`."""
    always, with_extras = runtime()
    document = of_environment()
    components = [c for c in document["components"] if canonical(c["name"]) in with_extras]
    for component in components:
        component["scope"] = "required" if canonical(component["name"]) in always else "optional"
    root = document["metadata"]["component"]["bom-ref"]
    kept = {root, *(component["bom-ref"] for component in components)}
    document["components"] = components
    edges = [entry for entry in document.get("dependencies", []) if entry["ref"] in kept]
    for edge in edges:
        if "dependsOn" in edge:
            edge["dependsOn"] = [ref for ref in edge["dependsOn"] if ref in kept]
    document["dependencies"] = edges
    return document


def main() -> None:
    """Write it."""
    SBOM.parent.mkdir(exist_ok=True)
    SBOM.write_text(json.dumps(bill(), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
