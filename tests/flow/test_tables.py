"""A table in an agent's hand: a mapping that cannot be changed behind its back."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headrace
from headrace.events.partitioner import Partitioner
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.simulated.log import SimulatedLog
from headrace.tables.memory import MemoryEngine
from headrace.tables.rows import KeyGuard, Rows, active_rows
from headrace.tables.table import Table
from tests.flow.mortal import LastingEngine
from tests.flow.shop import Balance
from tests.service import quick, running


class Bench:
    """One task's tables without a task around them; seals and applies when it is told to."""

    def __init__(self, table: Table[Any, Any], *, cache_rows_max: int) -> None:
        self.is_open = True
        self.guard = KeyGuard(Partitioner.MURMUR2, 0, 1)
        self._store = MemoryEngine().open("main", 0)
        self._rows = Rows(
            table.row_prefix, table.keys, table.values, self._store, cache_rows_max=cache_rows_max
        )
        self._sealed: list[dict[Any, Any]] = []

    def of(self, table: Any) -> Rows:
        """The rows of the one table."""
        return self._rows

    def seal(self) -> None:
        """End the unit in hand."""
        self._sealed.append(self._rows.seal())

    def apply(self) -> None:
        """Write the oldest sealed unit into the store."""
        if self._sealed:
            unit = self._sealed.pop(0)
            self._store.write(list(self._rows.encode(unit.items())))
            self._rows.applied(unit)


keys = st.integers(0, 9)
deeds = st.one_of(
    st.tuples(st.just("set"), keys),
    st.tuples(st.sampled_from(["get", "item", "in", "del", "pop", "pop or", "discard"]), keys),
    st.tuples(st.just("setdefault"), keys),
    st.tuples(st.sampled_from(["seal", "apply", "items"]), st.just(0)),
)


def done(deed: Callable[[], Any]) -> Any:
    """The result of a deed, or the kind of error it ended with."""
    try:
        return deed()
    except KeyError:
        return KeyError


def act(table: Any, deed: str, key: int, value: Any) -> Any:
    """Do to a mapping what stands in the story."""
    deeds: dict[str, Callable[[], Any]] = {
        "set": lambda: table.__setitem__(key, value),
        "get": lambda: table.get(key, "none"),
        "item": lambda: table[key],
        "in": lambda: key in table,
        "del": lambda: table.__delitem__(key),
        "pop": lambda: table.pop(key),
        "pop or": lambda: table.pop(key, "none"),
        "discard": lambda: table.pop(key, None) and None,
        "setdefault": lambda: table.setdefault(key, value),
        "items": lambda: sorted(table.items()),
    }
    return done(deeds[deed])


@pytest.mark.parametrize("cache_rows_max", [0, 1, 4, 1_000])
@pytest.mark.parametrize(
    ("value_type", "made"),
    [(int, lambda n: n), (dict[str, int], lambda n: {"n": n}), (list[int], lambda n: [n])],
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=st.lists(deeds, max_size=60))
def test_a_table_behaves_as_a_dict_whatever_is_cached_sealed_or_applied(
    value_type: Any, made: Callable[[int], Any], cache_rows_max: int, story: list[tuple[str, int]]
) -> None:
    table: Table[Any, Any] = Table("rows", key_type=int, value_type=value_type)
    bench, model = Bench(table, cache_rows_max=cache_rows_max), dict[int, Any]()
    token = active_rows.set(bench)
    try:
        for step, (deed, key) in enumerate(story):
            if deed in ("seal", "apply"):
                getattr(bench, deed)()
            else:
                assert act(table, deed, key, made(step)) == act(model, deed, key, made(step)), deed
        assert dict(table.items()) == model
        assert list(table) == sorted(model)
    finally:
        active_rows.reset(token)


async def in_hand(deed: Callable[[Any], Any], *, value_type: Any, default: Any = None) -> list[Any]:
    """What `deed` returns for a table, at each of two events that are two units."""
    app, results = headrace.App("trial"), list[Any]()
    source: headrace.Topic[int, bytes] = app.topic("in", key_type=int, partitions=1)
    rows = app.Table("rows", key_type=int, value_type=value_type, default=default)

    @app.agent(source)
    async def try_it(events: headrace.Stream[bytes]) -> None:
        async for _ in events:
            results.append(deed(rows))

    async with running(app) as service:
        for _ in range(2):
            await service.send(source, b"", key=1)
            await service.until_applied()
        results.append(service.table("rows").rows())
    return results


async def test_a_mutable_row_cannot_be_changed_in_place() -> None:
    def change(rows: Any) -> int:
        rows.setdefault(1, {"n": 1})
        rows[1]["n"] = 99
        written = {"n": 2}
        rows[2] = written
        written["n"] = 99
        return int(rows[1]["n"] + rows[2]["n"])

    assert await in_hand(change, value_type=dict[str, int]) == [3, 3, {1: {"n": 1}, 2: {"n": 2}}]


async def test_the_default_is_made_anew_and_is_not_a_row_until_it_is_written() -> None:
    def look(rows: Any) -> tuple[Any, ...]:
        rows[1].append(5)
        return rows[1], rows.get(1), 1 in rows

    assert await in_hand(look, value_type=list[int], default=list) == [([], None, False)] * 2 + [{}]


async def test_without_a_default_an_absent_row_is_a_key_error() -> None:
    assert await in_hand(lambda rows: done(lambda: rows[1]), value_type=int) == [KeyError, KeyError, {}]


async def test_a_deleted_row_is_gone_for_readers_and_after_a_restart() -> None:
    app, log, engine = headrace.App("trial"), SimulatedLog(), LastingEngine()
    source: headrace.Topic[int, bytes] = app.topic("in", key_type=int, partitions=1)
    rows = app.Table("rows", key_type=int, default=int)

    @app.agent(source)
    async def toggle(events: headrace.Stream[bytes]) -> None:
        async for delivery in events.events():
            if delivery.key in rows:
                del rows[delivery.key]
            else:
                rows[delivery.key] = 1

    async with running(app, log=log, engine=engine) as service:
        await service.send_all(source, [(1, b""), (2, b"")])
        await service.until_applied()
        assert service.table("rows").rows() == {1: 1, 2: 1}
        await service.send(source, b"", key=1)
        await service.until_applied()
        assert service.table("rows").rows() == {2: 1}
    for kept in (engine, LastingEngine()):
        async with running(app, log=log, engine=kept) as service:
            assert service.table("rows").rows() == {2: 1}
            with pytest.raises(KeyError):
                service.table("rows")[1]


KEYS: list[tuple[Any, list[Any]]] = [
    (str, ["", "a", "å€𝄞", "a\0b", "a/b c"]),
    (int, [0, 1, -1, 255, 256, -256, 2**63, -(2**100)]),
    (bytes, [b"", b"\0", b"\0\xff", b"\xff\xff"]),
    (uuid.UUID, [uuid.UUID(int=0), uuid.UUID("6f3b1f6e-6d0c-4f0e-9d55-5c5a0f6f9a11")]),
    (tuple[int, str], [(1, "a"), (1, "a\0"), (-1, ""), (2**40, "z")]),
    (tuple[str, tuple[bytes, uuid.UUID]], [("x", (b"\0", uuid.UUID(int=7)))]),
]
VALUES: list[tuple[Any, list[Any]]] = [
    (Balance, [Balance(), Balance(2**63 - 1, -1)]),
    (int, [0, -1, 2**63]),
    (float, [0.1, 1e308, -0.0]),
    (str, ["", "å€𝄞", '"\\\0']),
    (dict[str, list[int]], [{}, {"a": [1, 2], "": []}]),
    (list[float], [[], [0.5]]),
    (bytes, [b"", b"\0\xff"]),
    (Balance | None, [None, Balance(1, 1)]),
    (tuple[int, ...], [(), (1, 2)]),
]


@pytest.mark.parametrize("store", ["rocksdb", "memory"])
async def test_keys_and_values_of_every_type_survive_a_restart(store: str, tmp_path: Path) -> None:
    app = headrace.App("museum")
    source: headrace.Topic[Any, bytes] = app.topic("in", partitions=1)
    shelves = [
        (app.Table(f"k{n}", key_type=kind, value_type=int), dict.fromkeys(keys, 1))
        for n, (kind, keys) in enumerate(KEYS)
    ] + [
        (app.Table(f"v{n}", key_type=int, value_type=kind), dict(enumerate(values)))
        for n, (kind, values) in enumerate(VALUES)
    ]

    @app.agent(source)
    async def fill(events: headrace.Stream[bytes]) -> None:
        async for _ in events:
            for table, rows in shelves:
                for key, value in rows.items():
                    table[key] = value
                assert dict(table.items()) == rows

    kept = quick(store=store, data=str(tmp_path / "data"), instance="one")
    async with running(app, log=EmbeddedLog(tmp_path / "log.db"), settings=kept) as service:
        await service.send(source, b"")
        await service.until_applied()
    async with running(app, log=EmbeddedLog(tmp_path / "log.db"), settings=kept) as service:
        for table, rows in shelves:
            assert service.table(table.name).rows() == rows
            assert {key: service.table(table.name)[key] for key in rows} == rows


async def test_a_row_that_no_longer_fits_its_type_is_named_with_its_key() -> None:
    log, engine = SimulatedLog(), LastingEngine()

    class Wider(msgspec.Struct, frozen=True):
        cents: int
        currency: str

    def declare(value_type: Any, value: Any) -> tuple[headrace.App, headrace.Topic[int, bytes]]:
        app = headrace.App("trial")
        source: headrace.Topic[int, bytes] = app.topic("in", key_type=int, partitions=1)
        rows = app.Table("rows", key_type=int, value_type=value_type)

        @app.agent(source, on_error=headrace.Stop)
        async def write(events: headrace.Stream[bytes]) -> None:
            async for delivery in events.events():
                if rows.get(delivery.key) is None:
                    rows[delivery.key] = value

        return app, source

    app, source = declare(Balance, Balance(1, 1))
    async with running(app, log=log, engine=engine) as service:
        await service.send(source, b"", key=41)
        await service.until_applied()
    app, source = declare(Wider, Wider(1, "EUR"))
    async with running(app, log=log, engine=engine) as service:
        await service.send(source, b"", key=41)
        error = await service.standstill()
    assert isinstance(error.__cause__, headrace.errors.RowMismatch)
    assert "the row 41 of table rows cannot be read" in str(error)
    assert "upcast=" in str(error)
