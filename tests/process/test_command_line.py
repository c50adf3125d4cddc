"""The command line as people and scripts use it: beside a worker, without one, and when it says no."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from headrace.tables.rocksdb import RocksEngine

SERVICE = '''
import headrace

class Counted(headrace.Event, frozen=True):
    n: int

app = headrace.App("svc")
numbers = app.topic("svc.numbers", key_type=str, value_type=Counted, partitions=2)
totals = app.Table("totals", key_type=str, value_type=int, default=int)

@app.agent(numbers)
async def add_up(events):
    """Adds up."""
    async for event in events.events():
        totals[event.key] += event.value.n
'''
TIMEOUT_S = 30.0


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """A folder with one service in it, and commands run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "svc.py").write_text(SERVICE)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self.environment = kept | {"HEADRACE_HTTP": "127.0.0.1:0", "HEADRACE_INSTANCE": "one"}

    async def started(self, *command: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command),
            cwd=self.folder,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *command: str) -> Ended:
        process = await self.started(*command)
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    async def headrace(self, *arguments: str) -> Ended:
        return await self.run("headrace", "-A", "svc", *arguments)

    async def sent(self, key: str, n: int) -> Any:
        value = json.dumps({"type": "Counted", "n": n})
        ended = await self.headrace("send", "svc.numbers", value, "--key", key, "--json")
        assert ended.status == 0, ended.err
        return ended.json()

    @asynccontextmanager
    async def worker(self, *options: str) -> AsyncIterator[None]:
        process = await self.started("headrace", "-A", "svc", *options, "worker", "-l", "info")
        assert process.stderr is not None
        written = b""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while b"Ready: " not in (line := await process.stderr.readline()):
                    written += line
                    assert line, f"the worker ended:\n{written.decode()}"
            draining = asyncio.create_task(process.stderr.read(), name="worker's log")
            yield
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(TIMEOUT_S):
                await process.wait()
        await draining
        assert process.returncode == 0

    async def becomes(self, key: str, row: str, *options: str) -> None:
        """Wait until the committed row is this."""
        async with asyncio.timeout(TIMEOUT_S):
            while (await self.headrace(*options, "get", "totals", key)).out != f"{row}\n":
                pass


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


async def test_every_command_tells_the_truth_beside_a_worker_and_after_it(shell: Shell) -> None:
    created = await shell.headrace("topics", "--create", "--json")
    assert created.status == 0
    assert {row["topic"]: (row["partitions"], row["state"]) for row in created.json()} == {
        "svc.numbers": (2, "ok"),
        "svc.main.changelog": (2, "ok"),
    }
    first = await shell.sent("a", 3)
    assert (first["topic"], first["offset"]) == ("svc.numbers", 0)

    async with shell.worker():
        await shell.sent("a", 4)
        await shell.becomes("a", "7")
        beside = (await shell.headrace("tables", "--json")).json()
        assert sum(row["lag"] for row in beside) == 0
        assert beside[first["partition"]]["position"] == {"svc.numbers": 2}
        assert (await shell.headrace("verify")).status == 0

    assert (await shell.headrace("get", "totals", "nobody")).status == 1
    row = (await shell.headrace("get", "totals", "a", "--json")).json()
    assert row == {"key": "a", "partition": first["partition"], "value": 7}
    verified = await shell.headrace("verify", "--json")
    assert verified.status == 0
    assert [each["verdict"] for each in verified.json()] == ["equal", "equal"]

    await shell.sent("a", 1)
    assert sum(row["lag"] for row in (await shell.headrace("--json", "tables")).json()) == 1

    spoil(shell.folder / ".headrace" / "data" / "svc" / "one", first["partition"])
    spoilt = await shell.headrace("verify", "--json")
    assert spoilt.status == 1
    wrong = spoilt.json()[first["partition"]]
    assert (wrong["verdict"], wrong["different"], wrong["extra"]) == ("different", 1, 1)


def spoil(folder: Path, partition: int) -> None:
    """Change a row of the store and invent another one, as no worker ever would."""
    engine = RocksEngine(folder, cache_bytes=1 << 20, write_buffer_bytes=1 << 20)
    store = engine.open("main", partition)
    store.write([(b"totals\0a", b"8"), (b"totals\0ghost", b"1")])
    store.close()
    engine.close()


async def test_a_reset_waits_for_no_worker_and_the_next_one_folds_the_inputs_again(shell: Shell) -> None:
    first = await shell.sent("a", 3)
    async with shell.worker():
        await shell.sent("a", 4)
        await shell.becomes("a", "7")
        beside = await shell.headrace("reset", "--yes")
        assert beside.status == 3
        assert "1 worker(s) of it run: process " in beside.err
    spoil(shell.folder / ".headrace" / "data" / "svc" / "one", first["partition"])
    done = await shell.headrace("reset", "main", "--yes", "--json")
    assert done.status == 0, done.err
    row = done.json()[first["partition"]]
    assert (row["group"], row["rows"], row["muted_until"]) == ("main", 1, {"svc.numbers": 2})
    assert row["inputs"]["svc.numbers"] == 0
    assert (await shell.headrace("get", "totals", "a")).status == 1
    async with shell.worker():
        await shell.becomes("a", "7")


async def test_rows_of_a_table_in_memory_are_read_from_its_changelog(shell: Shell) -> None:
    await shell.sent("b", 5)
    async with shell.worker("--set", "store=memory"):
        await shell.becomes("b", "5", "--set", "store=memory")
    verified = await shell.headrace("--set", "store=memory", "verify")
    assert verified.status == 3
    assert "no store" in verified.err


async def test_an_app_that_cannot_be_imported_is_fatal_and_named(shell: Shell) -> None:
    (shell.folder / "broken.py").write_text("import headrace\nheadrace.App('x').no_such_thing\n")
    for command in (["worker"], ["config"], ["--help"]):
        ended = await shell.run("headrace", "-A", "broken", *command)
        assert ended.status == 1
        assert ended.err.splitlines()[-1].startswith("AttributeError: ")
        assert "broken.py, line 2" in ended.err
        assert "Traceback" not in ended.err
    missing = await shell.run("headrace", "-A", "nowhere", "config")
    assert (missing.status, missing.err.splitlines()[-1]) == (
        1,
        "ModuleNotFoundError: No module named 'nowhere'",
    )


async def test_misuse_and_what_cannot_be_told_have_statuses_of_their_own(shell: Shell) -> None:
    nothing_yet = await shell.headrace("tables")
    assert (nothing_yet.status, "no log at" in nothing_yet.err) == (3, True)
    assert not (shell.folder / ".headrace").exists()
    misuses = [
        (("get", "nope", "a"), "the app has: totals"),
        (("send", "nope", "1"), "the app has: svc.numbers"),
        (("send", "svc.numbers", '{"type": "Counted", "n": 1}'), "--key"),
        (("send", "svc.numbers", '{"type": "Counted"}', "-k", "a"), "missing required field"),
        (("--set", "lgo=x", "config"), "did you mean log?"),
        (("--set", "log", "config"), "NAME=VALUE"),
        (("--set", "store=disk", "worker"), "one of rocksdb, memory"),
        (("reset",), "say so with --yes"),
        (("reset", "nope", "--yes"), "the app has: main"),
        (("clean-versions",), "nothing to clean"),
    ]
    for arguments, sentence in misuses:
        ended = await shell.headrace(*arguments)
        assert ended.status == 2, (arguments, ended)
        assert sentence in ended.err, (arguments, ended)


async def test_config_names_each_origin_and_hides_secrets(shell: Shell) -> None:
    (shell.folder / "headrace.toml").write_text('store = "memory"\nkafka_password = "hunter2"\n')
    ended = await shell.headrace("--set", "unit_records_max=5_000", "config", "--json")
    rows = {row["setting"]: (row["value"], row["origin"]) for row in ended.json()}
    assert rows["unit_records_max"] == (5_000, "command line")
    assert rows["instance"] == ("one", "environment")
    assert rows["store"] == ("memory", "headrace.toml")
    assert rows["kafka_password"] == ("(hidden)", "headrace.toml")
    assert rows["log"] == ("embedded://.headrace/log.db", "default")
    assert "hunter2" not in ended.out + ended.err


async def test_faust_and_headrace_have_the_same_commands(shell: Shell) -> None:
    shell.environment["PYTHONPATH"] = str(shell.folder)
    ours = await shell.headrace("agents")
    theirs = await shell.run("faust", "-A", "svc", "agents")
    assert theirs.status == ours.status == 0
    assert theirs.out == ours.out
    assert "add_up" in ours.out
    assert (await shell.run("faust", "-A", "svc", "reset")).status == 2
