"""What a peer needs to run: a virtual environment of its own, or compiled Java."""

import subprocess
import sys
import venv
from pathlib import Path

from headrace.testing.jars import JarsMissing, fetch_jars
from headrace.testing.kafka_broker import VERSION as KAFKA_VERSION

CACHE = Path(".cache") / "bench"
QUIX_VERSION = "3.28.1"
CONFLUENT_VERSION = "2.16.1"
_STREAMS = (
    ("org.apache.kafka", "kafka-streams", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"),
    ("org.apache.logging.log4j", "log4j-core", "2.24.3"),
)


class NotBuilt(Exception):
    """The environment of a peer could not be made; the message says why."""


def python_of(peer: str, requirements: tuple[str, ...]) -> str:
    """The interpreter of a virtual environment with these packages, made on first use. Raises: NotBuilt."""
    folder = CACHE / peer
    python = folder / "bin" / "python"
    wanted = "\n".join(requirements)
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
        installed.write_text(wanted)
    return str(python.absolute())


def streams_jars() -> Path:
    """The folder of Kafka Streams' jars, which Maven fetches on first use. Raises: NotBuilt."""
    lib = (CACHE / f"kafka-streams-{KAFKA_VERSION}").absolute()
    try:
        fetch_jars(lib, _STREAMS)
    except JarsMissing as error:
        raise NotBuilt(str(error)) from error
    return lib


def java_classes(source: Path, lib: Path) -> Path:
    """The folder of classes compiled from one source file against jars. Raises: NotBuilt."""
    classes = CACHE / "java"
    classes.mkdir(parents=True, exist_ok=True)
    compiled = classes / f"{source.stem}.class"
    if not compiled.exists() or compiled.stat().st_mtime < source.stat().st_mtime:
        _run(["javac", "-cp", f"{lib}/*", "-d", str(classes), str(source)])
    return classes.absolute()


def this_python() -> str:
    """The interpreter that runs the comparison: headrace's own environment."""
    return sys.executable


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NotBuilt(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise NotBuilt(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2_000:]}")
