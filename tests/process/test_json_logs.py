"""HEADRACE_LOG_FORMAT=json: every line of a worker is one object, whoever wrote it."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import httpx

from tests.process.workers import REPOSITORY, Worker, running

NOISY = """
import sys
import warnings

from starlette.requests import Request
from starlette.responses import Response

import headrace

app = headrace.App("noisy")
words: headrace.Topic[str, str] = app.topic("words", key_type=str, value_type=str, partitions=1)
counts: headrace.Table[str, int] = app.Table("counts", key_type=str, value_type=int, default=int)


@app.agent(words)
async def count(events: headrace.Stream[str]) -> None:
    async for word in events:
        counts[word] += 1


@app.route("/noise")
async def make_noise(request: Request) -> Response:
    warnings.warn("a warning\\nof two lines", UserWarning, stacklevel=1)
    print("printed")
    sys.stderr.write("written\\n")
    raise ValueError("boom")
"""


async def test_every_line_is_an_object_with_exceptions_and_trace_inside(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    settings = {
        "HEADRACE_LOG": f"embedded://{tmp_path}/log.db",
        "HEADRACE_LOG_FORMAT": "json",
        "PYTHONPATH": f"{tmp_path}:{REPOSITORY}",
    }
    worker = Worker("noisy", "one", tmp_path, settings, by_faust=False)
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with running(worker), httpx.AsyncClient() as client:
        headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        answer = await client.get(f"http://{worker.address}/noise", headers=headers)
        assert answer.status_code == 500
        host, _, port = worker.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"no http at all\r\n\r\n")
        assert b"400" in await reader.read()
        writer.close()
        await writer.wait_closed()
        assert await worker.terminate() == 0

    lines: list[dict[str, Any]] = [json.loads(line) for line in worker.lines]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    said = {line["message"]: line for line in lines}
    assert {"printed", "written"} <= said.keys()
    assert not any("Invalid HTTP" in message for message in said), "a stranger could fill the disk"
    assert any("UserWarning: a warning\nof two lines" in message for message in said)
    (failed,) = [line for line in lines if line["logger"] == "headrace.http" and line["level"] == "error"]
    assert failed["error"].endswith("ValueError: boom")
    assert failed["trace_id"] == trace_id
    assert any(line["logger"].startswith("faust.") for line in lines)


async def test_a_worker_that_cannot_go_on_says_why_as_an_object(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {
            "HEADRACE_LOG": "simulated://",
            "HEADRACE_LOG_FORMAT": "json",
            "HEADRACE_HTTP": f"127.0.0.1:{taken.getsockname()[1]}",
        }
        worker = Worker("app.loyalty", "one", tmp_path, settings, by_faust=False)
        await worker.start()
        assert await worker.ended() == 1
    lines = [json.loads(line) for line in worker.lines]
    assert any(line["level"] == "critical" and "in use" in line["message"] for line in lines)
