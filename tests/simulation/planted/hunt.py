"""Plants a bug in a copy of the package, and lives through worlds on it until it is found."""

import importlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import msgspec

from tests.simulation.planted.bugs import Bug

ROOT = Path(__file__).parents[3]
_OURS = ("headrace", "tests")


@dataclass(frozen=True)
class Found:
    """What became of a hunt."""

    seed: int | None
    """The first seed that finds the bug; None: none of them."""
    complaint: str


class NoSuchText(AssertionError):
    """The product has changed: the text that a bug replaces is not in it any more, or more than once."""


def plant(bug: Bug, folder: Path) -> None:
    """Copy the package into this folder, with the bug in it. Raises: NoSuchText."""
    shutil.copytree(ROOT / "headrace", folder / "headrace")
    for change in bug.changes:
        path = folder / "headrace" / change.file
        text = path.read_text()
        if text.count(change.old) != 1:
            raise NoSuchText(f"{bug.name}: {change.file} has {text.count(change.old)} times {change.old!r}")
        path.write_text(text.replace(change.old, change.new))


@contextmanager
def hunting(bug: Bug, seeds: Iterable[int]) -> Iterator["Hunt"]:
    """A hunt under way, in a process of its own; ask it for what it has found."""
    with TemporaryDirectory(prefix="headrace-planted-") as folder:
        plant(bug, Path(folder))
        yield Hunt(Path(folder), bug.simulation, list(seeds))


class Hunt:
    """One process that lives through worlds on a copy of the package.

    It is a fork, which has all that the product needs loaded already: only the copy is imported anew.
    """

    def __init__(self, folder: Path, simulation: str, seeds: list[int]) -> None:
        self._answer, writing = os.pipe()
        self._process = os.fork()
        if not self._process:
            os.close(self._answer)
            _hunt(folder, simulation, seeds, writing)
        os.close(writing)

    def found(self) -> Found:
        """What it has found, once it is over."""
        with os.fdopen(self._answer, "rb") as answer:
            told = answer.read()
        os.waitpid(self._process, 0)
        return msgspec.json.decode(told, type=Found) if told else Found(None, "the hunt has ended by itself")


def _hunt(folder: Path, simulation: str, seeds: list[int], writing: int) -> NoReturn:
    """In the fork: import the copy, and look for the first seed that fails."""
    try:
        for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
            del sys.modules[name]
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        found = _first(folder, simulation, seeds)
    except BaseException as error:  # noqa: BLE001  (it is told to who asks)
        found = Found(None, f"the hunt could not begin: {type(error).__name__}: {error}")
    with os.fdopen(writing, "wb") as answer:
        answer.write(msgspec.json.encode(found))
    os._exit(0)


def _first(folder: Path, simulation: str, seeds: list[int]) -> Found:
    live = importlib.import_module("tests.simulation.worlds.live")
    lived = importlib.import_module(simulation).lived
    package = importlib.import_module("headrace")
    assert package.__file__ is not None
    assert Path(package.__file__).is_relative_to(folder), "the copy is hunted in, and nothing else"
    with live.uncollected():
        for seed in seeds:
            try:
                lived(seed)
            except Exception as error:  # noqa: BLE001  (it is what was hunted for)
                return Found(seed, f"{type(error).__name__}: {error}"[:300])
    return Found(None, f"not found in {len(seeds)} seeds")
