"""Jars that Maven fetches once into a folder: Apache Kafka for tests, Kafka Streams for the bench."""

import fcntl
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

Artifact = tuple[str, str, str]
"""Group id, artifact id, version."""


class JarsMissing(Exception):
    """Maven could not fetch the jars; the message says why."""


def fetch_jars(lib: Path, artifacts: Sequence[Artifact]) -> None:
    """Let Maven fetch these with all they need, unless the folder is there; one process at a time does it.

    Raises: JarsMissing.
    """
    if lib.is_dir():
        return
    lib.parent.mkdir(parents=True, exist_ok=True)
    with (lib.parent / f".{lib.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if lib.is_dir():
            return
        with tempfile.TemporaryDirectory(dir=lib.parent) as folder:
            pom = Path(folder) / "pom.xml"
            pom.write_text(_pom(artifacts))
            jars = Path(folder) / "jars"
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={jars.absolute()}"]
            _run(["mvn", "-B", "-q", "-f", str(pom), *goal])
            jars.rename(lib)


def _pom(artifacts: Sequence[Artifact]) -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, name, version in artifacts
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>headrace</groupId><artifactId>jars</artifactId><version>1</version>"
        f"<packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>"
    )


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise JarsMissing(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise JarsMissing(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
