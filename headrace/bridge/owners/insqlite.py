"""What a SQLite file knows of who touches a table: other objects in it."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from headrace.bridge.owners.finding import Finding, Found, Kind, Touch, Whose
from headrace.bridge.owners.mentions import mentions
from headrace.bridge.owners.sources import excerpt
from headrace.bridge.session import Engine, Session, quoted
from headrace.errors import DatabaseUnavailable

_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
_OURS = "headrace_"


def require_file(engine: Engine) -> None:
    """Connecting would make the file; who only looks leaves none behind. Raises: DatabaseUnavailable."""
    path = Path(engine.shown.removeprefix("sqlite://"))
    if not path.exists():
        raise DatabaseUnavailable(f"there is no database at {path}")


class InSqlite:
    """Reads the schema, over one session."""

    def __init__(self, session: Session, found: Found) -> None:
        self._session = session
        self._found = found

    async def look(self, tables: Sequence[str]) -> list[str]:
        """Find out what depends on these tables; those that are not there."""
        objects = await self._session.fetch(_OBJECTS)
        there = {name.casefold() for kind, name, _, _ in objects if kind in ("table", "view")}
        known = [name for name in tables if name.casefold() in there]
        self._found.not_there.append(
            "SQLite has no sessions, roles and statistics that tell who uses a file: scan the sources"
        )
        for table in known:
            for kind, name, on, sql in objects:
                if kind in ("view", "trigger"):
                    self._found.add(_dependent(table, kind, name, on, sql))
                elif kind == "table" and name.casefold() not in {each.casefold() for each in known}:
                    self._found.add([each async for each in self._foreign_keys(table, name)])
        return [name for name in tables if name not in known]

    async def _foreign_keys(self, table: str, other: str) -> AsyncIterator[Finding]:
        rows = await self._session.fetch(f"PRAGMA foreign_key_list({quoted(other)})")
        for key in dict.fromkeys((row[0], row[2]) for row in rows):
            if key[1].casefold() == table.casefold():
                yield _object(table, other, "foreign key", Touch.READ)


def _dependent(table: str, kind: str, name: str, on: str, sql: str) -> list[Finding]:
    if name.casefold() == table.casefold():
        return []
    mention = mentions(sql, table)
    is_on = on.casefold() == table.casefold()
    if mention is None and not is_on:
        return []
    # A view only reads; a trigger that is on the table sees its rows, one that is not may write them.
    touch = Touch.READ if kind == "view" or is_on or mention is None else mention.touch
    return [_object(table, name, f"{kind}: {excerpt(sql)}", touch)]


def _object(table: str, name: str, what: str, touch: Touch) -> Finding:
    whose = Whose.APP if name.startswith(_OURS) else Whose.OTHER
    return Finding(table, Kind.OBJECT, name, touch, whose, what)
