"""What only the embedded log promises: several processes on one file, and errors with a way out."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from headrace.errors import (
    AlreadyRunning,
    CommitUnknown,
    LogError,
    OffsetOutOfRange,
    TopicMismatch,
    Unavailable,
)
from headrace.events.position import TopicPartition
from headrace.log.embedded import connection
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import Append, Log, Member, TopicSpec
from headrace.vitals import Vitals

ORDERS = TopicPartition("orders", 0)

OTHER_PROCESS = """
import asyncio, sys
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import Append, Member

async def main():
    log = EmbeddedLog(sys.argv[1])
    await log.open()
    writer = await log.writer("other")
    membership = await log.join(Member(app="loyalty", instance="other", partitions={}))
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
    for line in sys.stdin:
        await writer.commit([Append("orders", 0, [(b"k", line.strip().encode(), (), 0)])])
        sys.stdout.write("committed\\n")
        sys.stdout.flush()

asyncio.run(main())
"""


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EmbeddedLog]:
    log = EmbeddedLog(path)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def other_process(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that runs the app `loyalty` and commits each line that it is told."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        OTHER_PROCESS,
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert await answer(process) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def tell(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    await process.stdin.drain()


async def answer(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


async def append(log: Log, *values: str) -> int:
    """Append under an id of its own; the result is the offset after the last record."""
    writer = await log.writer("test")
    offsets = await writer.commit([Append("orders", 0, [(b"k", value.encode(), (), 0) for value in values])])
    await writer.close()
    return offsets[ORDERS]


async def provisioned(log: EmbeddedLog) -> EmbeddedLog:
    await log.provision([TopicSpec(name="orders", partitions=1)])
    return log


async def test_a_commit_of_another_process_wakes_a_waiting_reader(tmp_path: Path) -> None:
    async with opened(tmp_path / "log.db") as log:
        await provisioned(log)
        async with other_process(tmp_path / "log.db") as process:
            reader = await log.reader({ORDERS: 0})
            for value in (b"first", b"second"):
                waiting = asyncio.create_task(reader.fetch(records_max=10, bytes_max=1_000), name="waiting")
                await tell(process, value.decode())
                (chunk,) = await waiting
                assert chunk.values == [value]
                assert await answer(process) == b"committed\n"
            await reader.close()


async def test_what_a_killed_process_was_told_to_be_committed_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path / "log.db") as log:
        await provisioned(log)
        async with other_process(tmp_path / "log.db") as process:
            await tell(process, "kept")
            assert await answer(process) == b"committed\n"
            process.kill()
            await process.wait()
        reader = await log.reader({ORDERS: 0})
        (chunk,) = await reader.fetch(records_max=10, bytes_max=1_000)
        assert chunk.values == [b"kept"]
        await reader.close()


async def test_a_second_worker_of_an_app_is_refused_until_the_first_ones_process_ends(tmp_path: Path) -> None:
    me = Member(app="loyalty", instance="me", partitions={"loyalty.main.changelog": 2})
    async with opened(tmp_path / "log.db") as log:
        await provisioned(log)
        async with other_process(tmp_path / "log.db") as process:
            with pytest.raises(AlreadyRunning, match=rf"process {process.pid}.*kafka://"):
                await log.join(me)
            other_app = await log.join(Member(app="checkout/x", instance="me", partitions={}))
            await other_app.close()
            process.kill()
            await process.wait()
            membership = await log.join(me)
            assert (await membership.next(-1)).partitions == {"loyalty.main.changelog": frozenset({0, 1})}
            await membership.close()


async def test_a_membership_that_is_closed_says_so_to_whoever_waits(tmp_path: Path) -> None:
    async with opened(tmp_path / "log.db") as log:
        membership = await log.join(Member(app="loyalty", instance="me", partitions={}))
        first = await membership.next(-1)
        waiting = asyncio.create_task(membership.next(first.generation), name="waiting")
        await asyncio.sleep(0)
        await membership.close()
        with pytest.raises(LogError, match="closed"):
            await waiting


async def test_an_identity_and_records_outlive_the_process(tmp_path: Path) -> None:
    async with opened(tmp_path / "deep" / "folder" / "log.db") as log:
        await provisioned(log)
        await append(log, "a", "b")
        identity = log.cluster_id, await log.topics()
    async with opened(tmp_path / "deep" / "folder" / "log.db") as log:
        assert (log.cluster_id, await log.topics()) == identity
        assert (await log.offsets([ORDERS]))[ORDERS] == (0, 2, 2)


async def test_many_processes_may_create_the_file_at_once(tmp_path: Path) -> None:
    logs = [EmbeddedLog(tmp_path / "log.db") for _ in range(6)]
    await asyncio.gather(*(log.open() for log in logs))
    assert len({log.cluster_id for log in logs}) == 1
    for log in logs:
        await log.close()


async def test_a_reader_of_a_deleted_topic_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path / "log.db") as log:
        await provisioned(log)
        reader = await log.reader({ORDERS: 0})
        waiting = asyncio.create_task(reader.fetch(records_max=10, bytes_max=1_000), name="waiting")
        await asyncio.sleep(0)
        await log.delete(["orders"])
        await provisioned(log)
        with pytest.raises(TopicMismatch, match="deleted"):
            await waiting
        await reader.close()


async def test_a_read_that_failed_owes_no_sign_of_life_however_long_nobody_fetches(tmp_path: Path) -> None:
    vitals = Vitals()
    log = EmbeddedLog(tmp_path / "log.db", vitals=vitals)
    await log.open()
    await provisioned(log)
    reader = await log.reader({ORDERS: 0})
    (vital,) = (each for each in vitals.all if "orders/0" in each.name)
    await log.delete(["orders"])
    with pytest.raises(TopicMismatch):
        await reader.fetch(records_max=10, bytes_max=1_000)
    assert vital.sign is None
    await reader.close()
    await log.close()
    assert vitals.all == ()


async def test_another_topics_records_are_never_read_in_place_of_a_deleted_ones(tmp_path: Path) -> None:
    async with opened(tmp_path / "log.db") as log:
        await provisioned(log)
        end = await append(log, "old")
        await log.delete(["orders"])
        await provisioned(log)
        reader = await log.reader({ORDERS: end})
        with pytest.raises(OffsetOutOfRange):
            await reader.fetch(records_max=10, bytes_max=1_000)
        await reader.close()


async def test_lag_tools_find_positions_in_a_table(tmp_path: Path) -> None:
    async with opened(tmp_path / "log.db") as log:
        await log.record_lag("loyalty", {ORDERS: 5})
        await log.record_lag("loyalty", {ORDERS: 7})
    with closing(sqlite3.connect(tmp_path / "log.db")) as db:
        assert db.execute("SELECT app, topic, partition, offset_next FROM lag").fetchall() == [
            ("loyalty", "orders", 0, 7)
        ]


async def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"this is a shopping list, not a log " * 100)
    log = EmbeddedLog(path)
    with pytest.raises(LogError, match="damaged or not a headrace log"):
        await log.open()
    await log.close()


async def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE customers (name TEXT)")
    log = EmbeddedLog(path)
    with pytest.raises(LogError, match="database of something else"):
        await log.open()
    await log.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    log = EmbeddedLog(tmp_path / "file" / "log.db")
    with pytest.raises(Unavailable, match="folder"):
        await log.open()
    await log.close()


def test_a_full_disk_is_named_and_leaves_nothing_of_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    connection.create(path)
    with closing(connection.connect(path)) as db:
        db.execute("PRAGMA max_page_count = 20")
        many = [(str(number), "x" * 4_000) for number in range(100)]
        with pytest.raises(sqlite3.OperationalError) as caught, connection.transaction(db):
            db.executemany("INSERT INTO meta VALUES (?, ?)", many)
        error = connection.translated(caught.value, path)
        assert isinstance(error, Unavailable)
        assert "disk" in str(error)
        assert error.is_recoverable
        assert db.execute("SELECT count(*) FROM meta").fetchone() == (1,)


def test_a_lock_held_for_long_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    connection.create(path)
    with closing(connection.connect(path)) as holder, closing(connection.connect(path)) as db:
        db.execute("PRAGMA busy_timeout = 1")
        with connection.transaction(holder):
            with pytest.raises(sqlite3.OperationalError) as caught, connection.transaction(db):
                raise AssertionError("never reached: the lock is held")
        error = connection.translated(caught.value, path)
        assert isinstance(error, Unavailable)
        assert "write lock" in str(error)


def test_a_commit_that_breaks_off_has_an_unknown_outcome(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    connection.create(path)
    with closing(connection.connect(path)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("CREATE TABLE late (topic INTEGER REFERENCES topics DEFERRABLE INITIALLY DEFERRED)")
        with pytest.raises(CommitUnknown), connection.transaction(db):
            db.execute("INSERT INTO late VALUES (99)")
        assert db.execute("SELECT count(*) FROM late").fetchone() == (0,)
