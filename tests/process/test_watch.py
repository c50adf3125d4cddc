"""`watch`: a row now, and at each commit that changes it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.process.test_command_line import TIMEOUT_S, Shell


class Lines:
    """What a running command writes, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def next(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(TIMEOUT_S):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def status(self) -> int:
        async with asyncio.timeout(TIMEOUT_S):
            _, err = await self.process.communicate()
        assert b"Traceback" not in err, err.decode()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def watching(shell: Shell, *arguments: str) -> AsyncIterator[Lines]:
    process = await shell.started("headrace", "-A", "svc", "watch", *arguments)
    try:
        yield Lines(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


async def test_it_tells_the_row_now_and_after_each_commit_that_changed_it(shell: Shell) -> None:
    await shell.sent("a", 3)
    async with shell.worker():
        await shell.becomes("a", "3")
        async with watching(shell, "totals", "a", "--json", "--count", "3") as lines:
            first = json.loads(await lines.next())
            assert (first["key"], first["value"], first["is_deleted"]) == ("a", 3, False)
            await shell.sent("b", 1)
            await shell.sent("a", 4)
            second = json.loads(await lines.next())
            assert (second["value"], second["changelog"] > first["changelog"]) == (7, True)
            await shell.sent("a", 0)
            await shell.sent("a", 1)
            assert json.loads(await lines.next())["value"] == 8
            assert await lines.status() == 0


async def test_a_row_that_is_not_there_yet_is_told_and_ctrl_c_ends_it(shell: Shell) -> None:
    await shell.sent("b", 1)
    async with shell.worker():
        await shell.becomes("b", "1")
        async with watching(shell, "totals", "a") as lines:
            assert await lines.next() == "(no row)"
            await shell.sent("a", 5)
            assert await lines.next() == "5"
            lines.process.send_signal(signal.SIGINT)
            assert await lines.status() == 0


async def test_a_table_that_there_is_not_is_misuse(shell: Shell) -> None:
    ended = await shell.headrace("watch", "nope", "a")
    assert (ended.status, "the app has: totals" in ended.err) == (2, True)
