"""Rows of the database as they are compared: in the order of the table's keys, whatever their type."""

import uuid
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace import bridge
from headrace.bridge.database import connect
from headrace.bridge.diff.sqlside import SqlSide
from headrace.bridge.session import Access
from headrace.errors import DeclarationError, SchemaMismatch
from tests.bridge.databases import KINDS, address, rows, run

ONE, OTHER = uuid.UUID(int=7), uuid.UUID(int=7 << 100)
KEYS: dict[str, tuple[Any, str, list[Any]]] = {
    "int": (int, "a bigint PRIMARY KEY", [-70000, -1, 0, 3, 255, 256, 2**40]),
    "numeric": (int, "a numeric PRIMARY KEY", [-5, 0, 12]),
    "str": (str, "a text PRIMARY KEY", ["", "A", "B", "Zoo", "a", "a b", "ab", "b", "\u00e4", "\U0001f600"]),
    "bytes": (bytes, "a bytea PRIMARY KEY", [b"\0", b"\0\1", b"a", b"\xff"]),
    "uuid": (uuid.UUID, "a uuid PRIMARY KEY", [ONE, OTHER]),
    "tuple": (
        tuple[str, int],
        "a text, b bigint, PRIMARY KEY (a, b)",
        [("", 5), ("B", -1), ("B", 3), ("a", 0), ("a b", 2)],
    ),
}


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return address(request.param, request, tmp_path)


def side(url: str, key_type: Any, **options: Any) -> SqlSide:
    app = headrace.App("shelves")
    table: Any = app.Table("shelf", key_type=key_type, value_type=int)
    key = options.pop("key", ("a", "b") if key_type == tuple[str, int] else "a")
    columns = {"count": lambda value: value}
    compared: Any = bridge.Compared(app, table, sql_table="shelf", key=key, columns=columns, **options)
    return SqlSide(connect(url), compared)


@pytest.mark.parametrize("kind", KEYS)
async def test_pages_follow_each_other_in_the_order_of_the_tables_keys(kind: str, url: str) -> None:
    key_type, columns, keys = KEYS[kind]
    await run(url, f"CREATE TABLE shelf (count bigint NOT NULL, {columns})")
    shelf = side(url, key_type)
    codec: Any = headrace.App("x").Table("shelf", key_type=key_type, value_type=int)
    stored = [codec.row_prefix + codec.keys.to_store(key) for key in keys]
    writer, reader = await connect(url).connect(), await connect(url).connect(Access.SNAPSHOT)
    for number in reversed(range(len(keys))):
        await shelf.put(writer, stored[number], (number,))
    await writer.commit()

    found, after = [], None
    while page := await shelf.page(reader, after, 2):
        found += page
        after = page[-1][0]
    assert found == [(key, (number,)) for number, key in enumerate(stored)]
    assert stored == sorted(stored)
    assert [shelf.key(key) for key in stored] == keys
    assert await shelf.rows(reader, stored[1:]) == dict(found[1:])
    assert await shelf.count(reader) == len(keys)
    await reader.rollback()

    await shelf.put(writer, stored[0], (99,))
    await shelf.delete(writer, stored[1])
    await writer.commit()
    assert await shelf.rows(reader, stored[:2]) == {stored[0]: (99,)}
    for session in (writer, reader):
        await session.close()


async def test_more_keys_than_one_statement_takes_are_read_in_several(url: str) -> None:
    await run(url, "CREATE TABLE shelf (a bigint PRIMARY KEY, count bigint NOT NULL)")
    shelf = side(url, int)
    keys = [shelf.store_key((number,)) for number in range(450)]
    session = await connect(url).connect()
    for key in keys:
        await shelf.put(session, key, (1,))
    assert len(await shelf.rows(session, keys)) == 450
    await session.close()


async def test_a_key_that_the_table_cannot_have_is_named(url: str) -> None:
    await run(url, "CREATE TABLE shelf (a text, count bigint)", "INSERT INTO shelf VALUES ('x', 1)")
    session = await connect(url).connect(Access.SNAPSHOT)
    with pytest.raises(DeclarationError, match=r"\('x',\).*no key of table shelf"):
        await side(url, int).page(session, None, 10)
    await session.close()


async def test_a_key_that_is_not_unique_is_refused(url: str) -> None:
    await run(url, "CREATE TABLE shelf (a text, count bigint)", "INSERT INTO shelf VALUES ('x', 1), ('x', 2)")
    session = await connect(url).connect(Access.SNAPSHOT)
    with pytest.raises(SchemaMismatch, match="not unique"):
        await side(url, str).page(session, None, 10)
    await session.close()


async def test_names_are_quoted(url: str) -> None:
    await run(url, 'CREATE TABLE shelf ("the key" bigint PRIMARY KEY, count bigint NOT NULL)')
    shelf = side(url, int, key="the key")
    session = await connect(url).connect()
    await shelf.put(session, shelf.store_key((4,)), (2,))
    await session.commit()
    await session.close()
    assert await rows(url, "SELECT * FROM shelf") == [(4, 2)]
