"""What every database that can be left must do, as the bridge sees it: PostgreSQL and SQLite alike."""

import asyncio
from pathlib import Path

import pytest

from headrace.bridge.database import connect
from headrace.bridge.session import Access, Engine
from headrace.errors import DatabaseUnavailable, SettingsError, StatementRefused
from tests.simulation.worlds.database import InlineEngine


@pytest.fixture(params=["sqlite", "postgresql", "inline"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "inline":
        # The one of the simulation, on the loop's own thread.
        return InlineEngine(f"{tmp_path}/shop.db")
    if request.param == "sqlite":
        return connect(f"sqlite://{tmp_path}/shop.db")
    return connect(request.getfixturevalue("postgres_url"))


async def _made(engine: Engine) -> None:
    session = await engine.connect()
    await session.execute("CREATE TABLE shelf (name text PRIMARY KEY, count bigint NOT NULL)")
    await session.commit()
    await session.close()


async def test_what_is_committed_is_there_for_others_and_what_is_not_is_not(engine: Engine) -> None:
    await _made(engine)
    one, other = await engine.connect(), await engine.connect(Access.READ)
    await one.execute("INSERT INTO shelf VALUES (%s, %s)", ("tea", 3))
    assert await other.fetch("SELECT * FROM shelf") == []
    await one.commit()
    assert await other.fetch("SELECT * FROM shelf") == [("tea", 3)]
    await one.execute("DELETE FROM shelf")
    await one.rollback()
    assert await other.fetch("SELECT count FROM shelf WHERE name = %s", ("tea",)) == [(3,)]
    await one.close()
    await other.close()


async def test_a_connection_that_is_closed_undoes_what_it_had_begun(engine: Engine) -> None:
    await _made(engine)
    one = await engine.connect()
    await one.execute("INSERT INTO shelf VALUES (%s, %s)", ("tea", 3))
    await one.close()
    other = await engine.connect(Access.READ)
    assert await other.fetch("SELECT * FROM shelf") == []
    await other.close()


async def test_a_snapshot_stands_still_while_others_write(engine: Engine) -> None:
    await _made(engine)
    writer, reader = await engine.connect(), await engine.connect(Access.SNAPSHOT)
    assert await reader.fetch("SELECT * FROM shelf") == []
    await writer.execute("INSERT INTO shelf VALUES (%s, %s)", ("tea", 3))
    await writer.commit()
    assert await reader.fetch("SELECT * FROM shelf") == []
    await reader.rollback()
    assert await reader.fetch("SELECT * FROM shelf") == [("tea", 3)]
    await writer.close()
    await reader.close()


async def test_rows_come_in_by_the_batch_and_each_is_there_once(engine: Engine) -> None:
    await _made(engine)
    session = await engine.connect()
    await session.copy_in("shelf", ("name", "count"), [(f"tea {n}", n) for n in range(1_000)])
    await session.execute_many(
        "UPDATE shelf SET count = count + %s WHERE name = %s", [(1, f"tea {n}") for n in range(1_000)]
    )
    await session.commit()
    assert await session.fetch("SELECT count(*), sum(count) FROM shelf") == [(1_000, 500_500)]
    await session.close()


async def test_how_many_rows_a_statement_changed_is_told(engine: Engine) -> None:
    await _made(engine)
    session = await engine.connect()
    await session.copy_in("shelf", ("name", "count"), [("tea", 1), ("salt", 2)])
    assert await session.execute("UPDATE shelf SET count = 5 WHERE name LIKE %s", ("t%",)) == 1
    assert await session.execute("UPDATE shelf SET count = 5 WHERE name LIKE 'x%%'") == 0
    await session.close()


async def test_a_statement_that_is_refused_can_be_told_from_a_database_that_is_gone(engine: Engine) -> None:
    await _made(engine)
    session = await engine.connect()
    await session.execute("INSERT INTO shelf VALUES (%s, %s)", ("tea", 3))
    await session.commit()
    with pytest.raises(StatementRefused):
        await session.execute("INSERT INTO shelf VALUES (%s, %s)", ("tea", 4))
    await session.rollback()
    with pytest.raises(StatementRefused):
        await session.execute("INSERT INTO no_such_shelf VALUES (%s, %s)", ("tea", 4))
    await session.rollback()
    assert await session.fetch("SELECT count FROM shelf") == [(3,)]
    await session.close()
    with pytest.raises(DatabaseUnavailable):
        await session.fetch("SELECT count FROM shelf")


async def test_the_loop_goes_on_while_a_statement_waits_for_a_lock(engine: Engine) -> None:
    await _made(engine)
    one, other = await engine.connect(), await engine.connect()
    await one.execute("INSERT INTO shelf VALUES (%s, %s)", ("tea", 3))
    waiting = asyncio.create_task(
        other.execute("INSERT INTO shelf VALUES (%s, %s)", ("tea", 4)), name="waits"
    )
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done()
    await one.rollback()
    assert await waiting == 1
    await one.close()
    await other.close()


@pytest.mark.parametrize("url", ["mysql://shop", "oracle://x/y", "/path/alone", "sqlite://"])
def test_another_database_is_refused_with_a_clear_sentence(url: str) -> None:
    with pytest.raises(SettingsError, match="PostgreSQL and SQLite"):
        connect(url)


async def test_a_transaction_that_the_server_ended_for_standing_still_says_nothing_of_a_statement(
    postgres_url: str,
) -> None:
    engine = connect(postgres_url)
    one, other = await engine.connect(), await engine.connect(Access.READ)
    [(process,)] = await one.fetch("SELECT pg_backend_pid()")
    await one.execute("SET idle_in_transaction_session_timeout = '10ms'")
    async with asyncio.timeout(30):
        while await other.fetch("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (process,)):
            pass
    with pytest.raises(DatabaseUnavailable):
        await one.fetch("SELECT 1")
    await one.close()
    await other.close()
