"""The databases that tests of the bridge run on, and what is in them."""

from pathlib import Path

import pytest

from headrace.bridge.database import connect
from headrace.bridge.session import Access, Engine, SqlRow

KINDS = ["sqlite", "postgresql"]


def address(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The address of an empty database of this kind."""
    if kind == "sqlite":
        return f"sqlite://{folder}/shop.db"
    return str(request.getfixturevalue("postgres_url"))


async def run(engine: Engine | str, *statements: str) -> None:
    """Run these and commit."""
    session = await (connect(engine) if isinstance(engine, str) else engine).connect()
    for statement in statements:
        await session.execute(statement)
    await session.commit()
    await session.close()


async def rows(engine: Engine | str, sql: str) -> list[SqlRow]:
    """The rows of a query."""
    session = await (connect(engine) if isinstance(engine, str) else engine).connect(Access.READ)
    try:
        return await session.fetch(sql)
    finally:
        await session.close()
