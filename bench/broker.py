"""The broker of a comparison: one that runs already, or one of its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.testing.kafka_broker import DEFAULT_LIB, KafkaBroker


class NoBroker(Exception):
    """No broker can run on this machine; the message says why."""


def jars() -> Path:
    """Where Kafka's jars are, or will be: HEADRACE_KAFKA_LIB, or the user's cache."""
    return Path(os.environ.get("HEADRACE_KAFKA_LIB", DEFAULT_LIB))


@contextmanager
def broker(address: str) -> Iterator[str]:
    """The address of a broker: the given one, or that of one with fresh data. Raises: NoBroker."""
    if address:
        yield address
        return
    reason = KafkaBroker.unavailable_reason(jars())
    if reason:
        raise NoBroker(f"No broker can run here: {reason}")
    with KafkaBroker(lib=jars()) as started:
        yield started.address
