"""Fixtures that every tier of tests may ask for."""

import signal

pytest_plugins = ["tests.kafka_fixture", "tests.browser_fixture", "tests.postgres_fixture"]

# Who runs in the background of a shell ignores Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
