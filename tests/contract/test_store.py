"""What every store keeps, whichever it is; and what only a store on disk can break."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from headrace.errors import NotOwner, StoreCorrupt, StoreInUse
from headrace.tables.memory import MemoryEngine
from headrace.tables.rocksdb import RocksEngine
from headrace.tables.store import Store, StoreEngine

MiB = 1 << 20
MakeEngine = Callable[[], StoreEngine]


def rocks(folder: Path) -> RocksEngine:
    return RocksEngine(folder, cache_bytes=4 * MiB, write_buffer_bytes=8 * MiB)


@pytest.fixture(params=["rocksdb", "memory"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreEngine]:
    made: StoreEngine = rocks(tmp_path / "data") if request.param == "rocksdb" else MemoryEngine()
    yield made
    made.close()


@pytest.fixture
def store(engine: StoreEngine) -> Store:
    return engine.open("main", 0)


def scan(store: Store, start: bytes = b"", end: bytes | None = None) -> list[tuple[bytes, bytes]]:
    snapshot = store.snapshot()
    try:
        return list(snapshot.scan(start, end))
    finally:
        snapshot.close()


def test_a_new_store_is_empty_and_has_no_mark(store: Store) -> None:
    assert store.mark is None
    assert store.get(b"a") is None
    assert scan(store) == []
    assert store.rows_estimate() == 0


def test_a_written_row_is_read_back_and_a_deleted_one_is_gone(store: Store) -> None:
    store.write([(b"a", b"1"), (b"b", b"2")])
    store.write([(b"a", None), (b"never written", None)])
    assert store.get(b"a") is None
    assert store.get(b"b") == b"2"


def test_the_last_write_of_a_key_within_a_batch_counts(store: Store) -> None:
    store.write([(b"a", b"1"), (b"a", None), (b"a", b"3"), (b"b", b"1"), (b"b", None)])
    assert scan(store) == [(b"a", b"3")]


def test_an_empty_row_is_a_row(store: Store) -> None:
    store.write([(b"a", b"")])
    assert store.get(b"a") == b""
    assert scan(store) == [(b"a", b"")]


def test_any_bytes_may_be_in_keys_and_rows(store: Store) -> None:
    row = bytes(range(256))
    store.write([(b"\x01\0\xff\0", row), (b"\xff\xff", row)])
    assert scan(store) == [(b"\x01\0\xff\0", row), (b"\xff\xff", row)]


def test_a_mark_stays_until_a_write_brings_another(store: Store) -> None:
    store.write([], b"first")
    store.write([(b"a", b"1")])
    assert store.mark == b"first"
    store.write([(b"b", b"2")], b"second")
    assert store.mark == b"second"


def test_the_mark_is_not_a_row(store: Store) -> None:
    store.write([(b"a", b"1")], b"mark")
    assert scan(store) == [(b"a", b"1")]
    assert scan(store, b"\0") == [(b"a", b"1")]
    assert store.rows_estimate() == 1


def test_a_scan_goes_in_key_order_from_start_to_before_end(store: Store) -> None:
    keys = [b"%04d" % number for number in range(1_000)]
    shuffled = random.Random(7).sample(keys, len(keys))
    store.write([(key, b"row " + key) for key in shuffled])
    assert [key for key, _ in scan(store)] == keys
    assert [key for key, _ in scan(store, b"0100", b"0300")] == keys[100:300]
    assert [key for key, _ in scan(store, b"0990")] == keys[990:]
    assert [key for key, _ in scan(store, b"01", b"0100")] == []
    assert scan(store, b"05", b"05") == []
    assert scan(store, b"05", b"04") == []
    assert scan(store, b"9") == []


def test_a_snapshot_shows_the_rows_as_they_were(store: Store) -> None:
    store.write([(b"changed", b"1"), (b"deleted", b"1"), (b"kept", b"1")])
    snapshot = store.snapshot()
    store.write([(b"changed", b"2"), (b"deleted", None), (b"new", b"2")])
    store.write([(b"changed", b"3"), (b"new", None)])
    assert list(snapshot.scan(b"", None)) == [(b"changed", b"1"), (b"deleted", b"1"), (b"kept", b"1")]
    assert [snapshot.get(key) for key in (b"changed", b"deleted", b"kept", b"new")] == [
        b"1",
        b"1",
        b"1",
        None,
    ]
    assert scan(store) == [(b"changed", b"3"), (b"kept", b"1")]
    snapshot.close()


def test_a_scan_in_another_thread_sees_one_instant_while_the_store_is_written(store: Store) -> None:
    keys = [b"%05d" % number for number in range(2_000)]
    store.write([(key, b"0") for key in keys])
    snapshot = store.snapshot()
    is_read = threading.Event()
    seen: list[list[tuple[bytes, bytes]]] = []

    def read() -> None:
        try:
            for _ in range(5):
                seen.append(list(snapshot.scan(b"", None)))
        finally:
            is_read.set()

    reader = threading.Thread(target=read)
    reader.start()
    generation = 0
    while not is_read.is_set():
        generation += 1
        row = b"%d" % generation
        odd = None if generation % 2 else row
        store.write(
            [(key, row) for key in keys[:500]] + [(key, odd) for key in keys[500:1_000]] + [(row, row)]
        )
    reader.join()
    assert seen == [[(key, b"0") for key in keys]] * 5
    snapshot.close()


def test_a_closed_snapshot_ends_its_scans_with_an_error(store: Store) -> None:
    store.write([(b"%04d" % number, b"row") for number in range(500)])
    snapshot = store.snapshot()
    rows = snapshot.scan(b"", None)
    next(rows)
    snapshot.close()
    snapshot.close()
    with pytest.raises(NotOwner):
        list(rows)
    with pytest.raises(NotOwner):
        snapshot.get(b"0001")


def test_a_store_closes_although_somebody_still_scans_it(engine: StoreEngine, store: Store) -> None:
    store.write([(b"%04d" % number, b"row") for number in range(500)])
    snapshot = store.snapshot()
    rows = snapshot.scan(b"", None)
    next(rows)
    store.close()
    reopened = engine.open("main", 0)
    with pytest.raises(NotOwner):
        list(rows)
    snapshot.close()
    assert reopened.get(b"0001") == b"row"


def test_a_closed_store_answers_nothing_and_closes_again(store: Store) -> None:
    store.write([(b"a", b"1")])
    store.close()
    store.close()
    with pytest.raises(NotOwner):
        store.get(b"a")
    with pytest.raises(NotOwner):
        store.write([(b"a", b"2")])


def test_a_store_opened_again_has_its_rows_and_its_mark(engine: StoreEngine, store: Store) -> None:
    store.write([(b"a", b"1"), (b"b", b"2")], b"mark")
    store.close()
    again = engine.open("main", 0)
    assert (again.mark, scan(again)) == (b"mark", [(b"a", b"1"), (b"b", b"2")])


def test_stores_of_one_engine_are_apart(engine: StoreEngine, store: Store) -> None:
    other = engine.open("main", 1)
    third = engine.open("main-0", 0)
    store.write([(b"a", b"1")], b"one")
    other.write([(b"a", b"2")])
    assert (store.get(b"a"), other.get(b"a"), third.get(b"a")) == (b"1", b"2", None)
    assert (store.mark, other.mark) == (b"one", None)


def test_an_engine_knows_what_it_holds_and_drops(engine: StoreEngine, store: Store) -> None:
    store.write([(b"a", b"1")], b"mark")
    engine.open("main", 12).close()
    engine.open("main-2", 3).close()
    assert engine.held("main").keys() == {0, 12}
    assert engine.held("main-2").keys() == {3}
    assert engine.held("nothing") == {}
    store.close()
    engine.drop("main", 0)
    engine.drop("main", 0)
    assert engine.held("main").keys() == {12}
    assert engine.open_read_only("main", 0) is None
    fresh = engine.open("main", 0)
    assert (fresh.mark, scan(fresh)) == (None, [])


def test_an_open_store_is_neither_opened_twice_nor_dropped(engine: StoreEngine, store: Store) -> None:
    store.write([(b"a", b"1")])
    with pytest.raises(StoreInUse):
        engine.open("main", 0)
    with pytest.raises(StoreInUse):
        engine.drop("main", 0)
    assert store.get(b"a") == b"1"


def test_a_store_is_read_beside_its_writer(engine: StoreEngine, store: Store) -> None:
    store.write([(b"a", b"1")], b"mark")
    beside = engine.open_read_only("main", 0)
    assert beside is not None
    store.write([(b"a", b"2")])
    assert (beside.mark, beside.get(b"a")) == (b"mark", b"1")
    beside.close()
    store.write([(b"a", b"3")])
    assert store.get(b"a") == b"3"


def test_the_size_grows_with_the_rows(store: Store) -> None:
    before = store.size_bytes()
    for batch in range(20):
        store.write(
            [(b"%d-%d" % (batch, number), random.Random(number).randbytes(200)) for number in range(1_000)]
        )
    assert store.size_bytes() - before > 2_000_000
    assert 15_000 < store.rows_estimate() < 30_000


# ---- on disk


def test_rows_and_mark_outlive_the_engine(tmp_path: Path) -> None:
    engine = rocks(tmp_path)
    engine.open("main", 0).write([(b"a", b"1")], b"mark")
    engine.close()
    again = rocks(tmp_path)
    store = again.open("main", 0)
    assert (store.mark, store.get(b"a")) == (b"mark", b"1")
    again.close()


def test_a_folder_that_another_engine_holds_is_in_use(tmp_path: Path) -> None:
    first, second = rocks(tmp_path), rocks(tmp_path)
    store = first.open("main", 0)
    with pytest.raises(StoreInUse):
        second.open("main", 0)
    store.close()
    second.open("main", 0)
    second.close()
    first.close()


HOLDER = """
import sys
from pathlib import Path
from headrace.tables.rocksdb import RocksEngine
engine = RocksEngine(Path(sys.argv[1]), cache_bytes=1 << 20, write_buffer_bytes=8 << 20)
store = engine.open("main", 0)
unit = int(store.mark or b"0")
sys.stdout.write("open\\n")
sys.stdout.flush()
while len(sys.argv) > 2:
    unit += 1
    rows = [(b"%03d" % key, b"%d" % unit) for key in range(100)] + [(b"unit %d" % unit, b"x" * 3_000)]
    store.write(rows, b"%d" % unit)
    if unit % 50 == 0:
        sys.stdout.write(f"{unit}\\n")
        sys.stdout.flush()
sys.stdin.read()
"""


def hold(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLDER, str(folder), *arguments]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    return holder


def kill(holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.communicate()


def test_a_store_that_another_process_holds_is_in_use_until_it_dies(tmp_path: Path) -> None:
    engine = rocks(tmp_path)
    holder = hold(tmp_path)
    try:
        with pytest.raises(StoreInUse):
            engine.open("main", 0)
        with pytest.raises(StoreInUse):
            engine.drop("main", 0)
        beside = engine.open_read_only("main", 0)
        assert beside is not None
        beside.close()
    finally:
        kill(holder)
    engine.open("main", 0)
    engine.close()


def test_a_killed_writer_leaves_rows_and_mark_of_one_unit(tmp_path: Path) -> None:
    dice = random.Random(3)
    for _ in range(6):
        writer = hold(tmp_path, "writing")
        assert writer.stdout is not None
        for _ in range(dice.randrange(1, 12)):
            written = int(writer.stdout.readline())
        kill(writer)
        engine = rocks(tmp_path)
        store = engine.open("main", 0)
        unit = int(store.mark or b"0")
        assert unit >= written
        rows = dict(scan(store))
        assert {rows[b"%03d" % key] for key in range(100)} == {b"%d" % unit}
        assert {key for key in rows if key.startswith(b"unit")} == {
            b"unit %d" % n for n in range(1, unit + 1)
        }
        engine.close()


def test_a_reader_beside_a_busy_writer_sees_whole_units(tmp_path: Path) -> None:
    writer = hold(tmp_path, "writing")
    engine = rocks(tmp_path)
    try:
        for _ in range(10):
            beside = engine.open_read_only("main", 0)
            assert beside is not None
            unit = beside.mark
            rows = dict(scan(beside))
            assert {rows[b"%03d" % key] for key in range(100) if rows} <= {unit}
            beside.close()
    finally:
        kill(writer)
        engine.close()


def fill(folder: Path) -> dict[bytes, bytes]:
    """Some thousand rows, most of them in table files, the last ones in the write-ahead log."""
    engine = rocks(folder)
    store = engine.open("main", 0)
    dice = random.Random(11)
    rows = {b"%06d" % number: dice.randbytes(400) for number in range(20_000)}
    pairs = list(rows.items())
    for start in range(0, len(pairs), 1_000):
        store.write(pairs[start : start + 1_000], b"%d" % start)
    engine.close()
    return rows


def flip(path: Path, offset: int, count: int = 64) -> None:
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bytes(byte ^ 0xFF for byte in content[offset : offset + count])
    path.write_bytes(content)


def test_flipped_bytes_in_a_table_file_are_corruption_and_never_a_short_scan(tmp_path: Path) -> None:
    rows = fill(tmp_path)
    # The small ones are the store's own and are read when it is opened.
    table_files = [path for path in (tmp_path / "main-0").glob("*.sst") if path.stat().st_size > MiB // 4]
    assert table_files
    for path in table_files:
        flip(path, path.stat().st_size // 3)
    engine = rocks(tmp_path)
    store = engine.open("main", 0)
    with pytest.raises(StoreCorrupt):
        scan(store)
    refused = 0
    for key, row in rows.items():
        try:
            assert store.get(key) == row
        except StoreCorrupt:
            refused += 1
    assert refused > 0
    snapshot = store.snapshot()
    with pytest.raises(StoreCorrupt):
        _ = [snapshot.get(key) for key in rows]
    engine.close()


def test_whatever_file_is_damaged_the_store_refuses_or_stands_at_its_mark(tmp_path: Path) -> None:
    rows = fill(tmp_path / "whole")
    pairs = list(rows.items())
    dice = random.Random(5)
    names = sorted(path.name for path in (tmp_path / "whole" / "main-0").iterdir() if path.stat().st_size)
    for attempt in range(40):
        folder = tmp_path / f"damaged-{attempt}"
        subprocess.run(["cp", "-r", tmp_path / "whole", folder], check=True)
        damaged = folder / "main-0" / names[attempt % len(names)]
        flip(damaged, dice.randrange(damaged.stat().st_size), dice.choice([1, 8, 64]))
        engine = rocks(folder)
        try:
            store = engine.open("main", 0)
            assert store.mark is not None
            assert scan(store) == pairs[: int(store.mark) + 1_000], damaged.name
        except StoreCorrupt:
            continue
        finally:
            engine.close()


TWO_LOGS = """
import os, sys
from pathlib import Path
from headrace.tables.rocksdb import RocksEngine
store = RocksEngine(Path(sys.argv[1]), cache_bytes=1 << 20, write_buffer_bytes=64 << 20).open("main", 0)
unit = 0
while len(list(Path(sys.argv[1], "main-0").glob("*.log"))) < 2:
    unit += 1
    store.write([(b"%06d" % unit, os.urandom(3_000))], b"%d" % unit)
os._exit(9)
"""


def delete(log: Path) -> None:
    log.unlink()


def empty(log: Path) -> None:
    log.write_bytes(b"")


def halve(log: Path) -> None:
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])


def two_logs(folder: Path) -> Path:
    """A store whose writer was killed while it had two logs; the older one."""
    subprocess.run([sys.executable, "-c", TWO_LOGS, str(folder)], check=False)
    older, _ = sorted((folder / "main-0").glob("*.log"))
    return older


@pytest.mark.parametrize("damage", [delete, empty])
def test_a_missing_log_with_a_newer_one_behind_it_is_corruption_and_not_a_gap(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    damage(two_logs(tmp_path))
    engine = rocks(tmp_path)
    with pytest.raises(StoreCorrupt, match="has a gap"):
        engine.open("main", 0)
    engine.close()


def test_behind_a_log_that_was_cut_nothing_is_replayed(tmp_path: Path) -> None:
    halve(two_logs(tmp_path))
    engine = rocks(tmp_path)
    store = engine.open("main", 0)
    units = int(store.mark or b"0")
    assert units > 1
    assert [key for key, _ in scan(store)] == [b"%06d" % unit for unit in range(1, units + 1)]
    engine.close()


def test_a_store_that_was_found_damaged_is_not_opened_again_until_it_is_quarantined(
    engine: StoreEngine, store: Store
) -> None:
    heard: list[str] = []
    store.write([(b"a", b"1")])
    store.damage.watch(lambda: heard.append(store.damage.what))
    store.damage.note(StoreCorrupt("a bad block"))
    store.damage.note(StoreCorrupt("another one"))
    assert heard == ["a bad block"]
    with pytest.raises(StoreInUse):
        engine.quarantine("main", 0, 0.0)
    store.close()
    with pytest.raises(StoreCorrupt, match="a bad block"):
        engine.open("main", 0)
    engine.quarantine("main", 0, 0.0)
    fresh = engine.open("main", 0)
    assert (fresh.mark, fresh.get(b"a")) == (None, None)


def test_missing_files_are_corruption_and_a_dropped_store_starts_anew(tmp_path: Path) -> None:
    fill(tmp_path)
    folder = tmp_path / "main-0"
    engine = rocks(tmp_path)
    (folder / "CURRENT").rename(folder / "aside")
    with pytest.raises(StoreCorrupt):
        engine.open("main", 0)
    (folder / "aside").rename(folder / "CURRENT")
    next(folder.glob("*.sst")).unlink()
    with pytest.raises(StoreCorrupt):
        scan(engine.open("main", 0))
    engine.close()
    engine.drop("main", 0)
    assert list(tmp_path.iterdir()) == []
    fresh = engine.open("main", 0)
    assert (fresh.mark, scan(fresh)) == (None, [])
    engine.close()


# ---- against a model

keys = st.binary(min_size=1, max_size=3).filter(lambda key: key[0] != 0)
writes = st.lists(st.tuples(keys, st.none() | st.binary(max_size=8)), max_size=12)


class AgainstADict(RuleBasedStateMachine):
    """Whatever is done to a store, it says what a dict says, and its snapshots what the dict said then."""

    make_engine: MakeEngine

    @initialize()
    def start(self) -> None:
        self.engine = self.make_engine()
        self.store = self.engine.open("main", 0)
        self.rows: dict[bytes, bytes] = {}
        self.mark: bytes | None = None
        self.frozen: list[tuple[object, list[tuple[bytes, bytes]]]] = []

    @rule(batch=writes, mark=st.none() | st.binary(max_size=4))
    def write(self, batch: list[tuple[bytes, bytes | None]], mark: bytes | None) -> None:
        self.store.write(batch, mark)
        for key, row in batch:
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        self.mark = self.mark if mark is None else mark

    @rule()
    def freeze(self) -> None:
        self.frozen.append((self.store.snapshot(), sorted(self.rows.items())))

    @rule(start=st.just(b"") | keys, end=st.none() | keys)
    def scan(self, start: bytes, end: bytes | None) -> None:
        expected = [
            row for row in sorted(self.rows.items()) if row[0] >= start and (end is None or row[0] < end)
        ]
        assert scan(self.store, start, end) == expected

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.frozen.clear()
        self.store = self.engine.open("main", 0)

    @rule()
    def drop(self) -> None:
        self.store.close()
        self.frozen.clear()
        self.engine.drop("main", 0)
        self.store = self.engine.open("main", 0)
        self.rows.clear()
        self.mark = None

    @invariant()
    def agrees(self) -> None:
        assert self.store.mark == self.mark
        assert all(self.store.get(key) == row for key, row in self.rows.items())

    @invariant()
    def snapshots_stand_still(self) -> None:
        for snapshot, rows in self.frozen:
            assert list(snapshot.scan(b"", None)) == rows  # type: ignore[attr-defined]

    def teardown(self) -> None:
        self.engine.close()


@pytest.mark.parametrize("kind", ["rocksdb", "memory"])
def test_a_store_agrees_with_a_dict_whatever_is_done(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def make() -> StoreEngine:
        return rocks(tmp_path_factory.mktemp("model")) if kind == "rocksdb" else MemoryEngine()

    machine = type("Machine", (AgainstADict,), {"make_engine": staticmethod(make)})
    limits = settings(
        max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=limits)
