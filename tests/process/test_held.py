"""Inputs that wait, as `tables` tells them: it asks the worker, and says so where there is none."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from headrace.events.envelope import Envelope, encode_envelope, fresh_event_id
from headrace.events.position import Position, TopicPartition
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import Append, catalog
from tests.process.test_command_line import TIMEOUT_S, Shell

QUESTIONS = 20
COURT = """
import asyncio
from pathlib import Path

import headrace

class Said(headrace.Event, frozen=True):
    text: str

app = headrace.App("svc")
questions = app.topic("questions", key_type=str, value_type=Said, partitions=1)
answers = app.topic("answers", key_type=str, value_type=Said, partitions=1)
heard = app.Table("heard", key_type=str, value_type=int, default=int)

@app.agent(questions)
async def ask(events):
    async for event in events:
        while heard["a"] and not Path("go").exists():
            await asyncio.sleep(0.01)
        heard["a"] += 1

@app.agent(answers)
async def answer(events):
    async for event in events:
        heard["a"] += 1
"""


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[EmbeddedLog]:
    log = EmbeddedLog(folder / ".headrace" / "log.db")
    await log.open()
    try:
        yield log
    finally:
        await log.close()


async def court_with_an_early_answer(folder: Path) -> Shell:
    """A service that ponders its second question, and an answer to the last one of them."""
    shell = Shell(folder)
    (folder / "svc.py").write_text(COURT)
    assert (await shell.headrace("topics", "--create")).status == 0
    async with opened(folder) as log:
        infos = await log.describe(["questions", "answers"])
        writer = await log.writer("people")
        said = b'{"type": "Said", "text": "?"}'
        await writer.commit([Append("questions", 0, [(b"a", said, (), 1)] * QUESTIONS)])
        seen = catalog(log, infos).seen(Position({TopicPartition("questions", 0): QUESTIONS}))
        headers = encode_envelope(Envelope(fresh_event_id(), 1, stamp=seen.encode()))
        await writer.commit([Append("answers", 0, [(b"a", said, headers, 1)])])
        await writer.close()
    return shell


async def test_what_waits_is_told_while_a_worker_runs_and_that_nobody_knows_when_none_does(
    tmp_path: Path,
) -> None:
    shell = await court_with_an_early_answer(tmp_path)
    alone = await shell.headrace("tables")
    assert alone.status == 0
    assert "HELD is not known of every partition: no worker has them" in alone.err
    assert (await shell.headrace("tables", "--json")).json()[0]["held"] is None

    token = "open-sesame"
    digest = hashlib.sha256(token.encode()).hexdigest()
    (tmp_path / "token").write_text(f"{token}\n")
    async with shell.worker("-s", f"tokens={digest}", "-s", "unit_records_max=1"):
        async with asyncio.timeout(TIMEOUT_S):
            while not (held := await told(shell)):
                pass
        assert [(each["topic"], each["offset"], each["waits_for"]) for each in held] == [
            ("answers", 0, {"questions/0": QUESTIONS})
        ]
        assert held[0]["for_s"] >= 0
        shown = await shell.headrace("tables", "--token-file", "token")
        assert "answers 0 has waited" in shown.out
        assert "for questions/0 up to 20" in shown.out
        refused = await shell.headrace("tables")
        assert refused.status == 0
        assert "it answers 401; --token-file gives it a token" in refused.err
        (tmp_path / "go").touch()
        async with asyncio.timeout(TIMEOUT_S):
            while await told(shell) != []:
                pass


async def told(shell: Shell) -> Any:
    """What `tables` tells of the held inputs of the one partition."""
    ended = await shell.headrace("tables", "--token-file", "token", "--json")
    assert ended.status == 0, ended.err
    (row,) = ended.json()
    return row["held"]
