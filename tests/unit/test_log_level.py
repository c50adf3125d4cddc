"""The level of a worker's log: lines below it are not even made."""

import io
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust import Worker
from faust.utils.terminal import Spinner

from headrace.lifecycle import spare_unread_lines


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was again afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def set_up(root: logging.Logger, level: int) -> None:
    """As Faust's worker sets it up, with one handler."""
    root.handlers[:] = [logging.StreamHandler(io.StringIO())]
    worker: Any = SimpleNamespace(spinner=Spinner(file=io.StringIO()))
    worker._disable_spinner_if_level_below_WARN = lambda level: Worker._disable_spinner_if_level_below_WARN(
        worker, level
    )
    worker._setup_spinner_handler = lambda *given: Worker._setup_spinner_handler(worker, *given)
    root.setLevel(level)
    root.handlers[0].setLevel(level)
    Worker.on_setup_root_logger(cast(Worker, worker), root, level)


def made(name: str) -> list[int]:
    levels = (logging.DEBUG, logging.INFO, logging.WARNING)
    return [level for level in levels if logging.getLogger(name).isEnabledFor(level)]


def test_no_line_below_the_level_is_made_for_the_sake_of_a_spinner(root: logging.Logger) -> None:
    set_up(root, logging.WARNING)
    assert logging.DEBUG in made("aiokafka.conn"), "the spinner asks for everything"
    spare_unread_lines()
    assert made("aiokafka.conn") == [logging.WARNING]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_a_level_at_which_no_spinner_turns_stays_as_it_is(root: logging.Logger, level: int) -> None:
    set_up(root, level)
    before = made("aiokafka.conn")
    spare_unread_lines()
    assert made("aiokafka.conn") == before
