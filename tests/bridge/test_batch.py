"""What a unit writes is merged by key, and means the same as one write after the other."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.bridge.batch import Batch, Kind, Statement, send
from headrace.bridge.database import connect
from headrace.bridge.session import SqlRow
from headrace.bridge.sqltable import SqlTable

TABLE = SqlTable("t", key="k", sums=("n",))
OPERATIONS = st.one_of(
    st.tuples(st.just(Kind.ADD), st.fixed_dictionaries({"k": st.integers(0, 3), "n": st.integers(0, 9)})),
    st.tuples(
        st.sampled_from([Kind.ADD, Kind.PUT]),
        st.fixed_dictionaries({"k": st.integers(0, 3), "n": st.integers(0, 9), "v": st.integers(0, 9)}),
    ),
    st.tuples(st.just(Kind.PUT), st.fixed_dictionaries({"k": st.integers(0, 3), "v": st.integers(0, 9)})),
    st.tuples(st.just(Kind.DELETE), st.fixed_dictionaries({"k": st.integers(0, 3)})),
    st.just(("UPDATE t SET n = n * 2 WHERE k < %s", (2,))),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATIONS, max_size=25))
def test_a_batch_means_what_one_write_after_the_other_means(operations: list[Any]) -> None:
    assert asyncio.run(_written(operations, at_once=True)) == asyncio.run(_written(operations, at_once=False))


async def _written(operations: list[Any], *, at_once: bool) -> list[SqlRow]:
    with TemporaryDirectory() as folder:
        session = await connect(f"sqlite://{Path(folder) / 't.db'}").connect()
        await session.execute(
            "CREATE TABLE t (k integer PRIMARY KEY, n integer DEFAULT 0, v integer DEFAULT 0)"
        )
        batch = Batch()
        for what, row in operations:
            if isinstance(what, Kind):
                batch.write(TABLE.shape(what, tuple(row)), tuple(row.values()))
            else:
                batch.write(Statement(what), row)
            if not at_once:
                await send(session, batch.take(), None)
        await send(session, batch.take(), None)
        found = await session.fetch("SELECT * FROM t ORDER BY k")
        await session.close()
        return found


def test_what_an_event_wrote_can_be_taken_back_by_itself() -> None:
    batch, index = Batch(), 0
    batch.guard(lambda: index)
    batch.write(Statement("a"), ())
    index = 1
    batch.write(Statement("b"), ())
    batch.write(Statement("c"), ())
    assert batch.of_event_in_hand() == 2
    batch.forget(batch.of_event_in_hand())
    assert [what for what, _ in batch.take()] == [Statement("a")]


async def test_a_key_that_is_written_in_two_ways_costs_two_statements(tmp_path: Path) -> None:
    session = await connect(f"sqlite://{tmp_path / 't.db'}").connect()
    await session.execute("CREATE TABLE t (k integer PRIMARY KEY, n integer)")
    batch = Batch()
    batch.write(TABLE.shape(Kind.ADD, ("k", "n")), (1, 5))
    batch.write(TABLE.shape(Kind.DELETE, ("k",)), (1,))
    before = session.statements
    await send(session, batch.take(), None)
    assert session.statements - before == 2
    await session.close()
