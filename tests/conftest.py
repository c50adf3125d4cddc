"""Fixtures that every tier of tests may ask for."""

import signal

import pytest

pytest_plugins = ["tests.kafka_fixture", "tests.browser_fixture", "tests.postgres_fixture"]

# Who runs in the background of a shell ignores Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

_LONG = ("chaos", "process", "wire", "bridge", "browser", "reference", "simulation")
"""Folders whose files take longest: were one of them the last, the other testers would wait for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; within a file the order stays."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    parts = item.path.parts
    return next((at for at, folder in enumerate(_LONG) if folder in parts), len(_LONG))
