"""Fixtures that every tier of tests may ask for."""

pytest_plugins = ["tests.kafka_fixture", "tests.browser_fixture", "tests.postgres_fixture"]
