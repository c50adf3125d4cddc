"""The PostgreSQL that all tests of a session share, and a database of its own for each test."""

import os
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from headrace.testing.postgres_server import PostgresServer


def require_postgres() -> None:
    """Skip, loudly, where no server can run; fail where TEST_REQUIRE_ALL says that it must."""
    reason = PostgresServer.unavailable_reason()
    if reason is None:
        return
    sentence = f"THE POSTGRESQL SUITE DOES NOT RUN: {reason}"
    if os.environ.get("TEST_REQUIRE_ALL") == "1":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running server; tests use databases of their own."""
    require_postgres()
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The address of an empty database for one test."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgres_server.url_of(name)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A running server for one test alone, to be killed."""
    require_postgres()
    with PostgresServer() as server:
        yield server
