"""Asks a database, whichever it is, who touches some of its tables."""

from collections.abc import Sequence

from headrace.bridge.owners.finding import Found, Own
from headrace.bridge.owners.inpostgres import InPostgres
from headrace.bridge.owners.insqlite import InSqlite, require_file
from headrace.bridge.session import Access, Engine

PURPOSE = "headrace owners"


async def look(engine: Engine, tables: Sequence[str], own: Own, found: Found) -> list[str]:
    """Find out what the database knows; the tables that it does not have. It writes nothing.

    Raises: DatabaseUnavailable, StatementRefused.
    """
    if engine.name == "sqlite":
        require_file(engine)
    session = await engine.connect(Access.READ, purpose=PURPOSE)
    try:
        if engine.name == "sqlite":
            return await InSqlite(session, found).look(tables)
        return await InPostgres(session, own, found).look(tables)
    finally:
        await session.close()
