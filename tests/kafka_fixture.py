"""The broker that all tests of a session share, and what it takes to run it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing.kafka_broker import DEFAULT_LIB, KafkaBroker

# Brokers that live for seconds: what the JVM's second compiler would win, nobody is there any more to see.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")


def kafka_lib() -> Path:
    """Where Kafka's jars are, or will be: HEADRACE_KAFKA_LIB, or the user's cache."""
    return Path(os.environ.get("HEADRACE_KAFKA_LIB", DEFAULT_LIB))


def require_kafka() -> None:
    """Skip, loudly, where no broker can run; fail where TEST_REQUIRE_ALL says that it must."""
    reason = KafkaBroker.unavailable_reason(kafka_lib())
    if reason is None:
        return
    sentence = f"THE KAFKA SUITE DOES NOT RUN: {reason}"
    if os.environ.get("TEST_REQUIRE_ALL") == "1":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaBroker]:
    """A running broker without authentication; tests name their topics uniquely."""
    require_kafka()
    with KafkaBroker(lib=kafka_lib()) as broker:
        yield broker


@pytest.fixture
def own_broker() -> Iterator[KafkaBroker]:
    """A running broker for one test alone, for apps whose topics have fixed names."""
    require_kafka()
    with KafkaBroker(lib=kafka_lib()) as broker:
        yield broker
