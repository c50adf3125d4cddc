"""The very commands and health checks of docker-compose.yml and the Dockerfile, run without Docker."""

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SERVICES = ("checkout", "promotions", "loyalty")
TIMEOUT_S = 30.0


def composed(service: str) -> dict[str, Any]:
    document = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text("utf-8"))
    found: dict[str, Any] = document["services"][service]
    return found


def surroundings(given: dict[str, str], folder: Path, port: int) -> dict[str, str]:
    """The service's environment, with log, files and port of this test instead of the containers'."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    settings = {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for name, value in given.items()}
    scripts = str(Path(sys.executable).parent)
    return kept | {
        **settings,
        "PATH": f"{scripts}{os.pathsep}{kept.get('PATH', '')}",
        "HEADRACE_LOG": f"embedded://{folder / 'log.db'}",
        "HEADRACE_DATA": str(folder / "data"),
        "HEADRACE_HTTP": settings["HEADRACE_HTTP"].replace("6066", str(port)),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def status_of(command: list[str], environment: dict[str, str]) -> int:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(TIMEOUT_S):
        return await process.wait()


async def written_until(worker: asyncio.subprocess.Process, words: bytes) -> None:
    assert worker.stderr is not None
    written = b""
    async with asyncio.timeout(TIMEOUT_S):
        while words not in (line := await worker.stderr.readline()):
            written += line
            assert line, f"the worker ended:\n{written.decode()}"


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_starts_passes_its_health_checks_and_stops(service: str, tmp_path: Path) -> None:
    described = composed(service)
    port = free_port()
    environment = surroundings(described["environment"], tmp_path, port)
    checks = [described["healthcheck"]["test"][1:], ["python", "-c", image_health_check()]]
    checks = [[part.replace("6066", str(port)) for part in check] for check in checks]
    for check in checks:
        assert await status_of(check, environment) != 0, "healthy before it runs"
    worker = await asyncio.create_subprocess_exec(
        *described["command"],
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await written_until(worker, b"Ready: ")
        assert worker.stderr is not None
        draining = asyncio.create_task(worker.stderr.read(), name="worker's log")
        for check in checks:
            assert await status_of(check, environment) == 0, check
    finally:
        if worker.returncode is None:
            worker.send_signal(signal.SIGTERM)
        async with asyncio.timeout(TIMEOUT_S):
            await worker.wait()
    await draining
    assert worker.returncode == 0


def image_health_check() -> str:
    match = re.search(
        r'HEALTHCHECK .*?CMD \["python", "-c", "(.*?)"\]', (ROOT / "Dockerfile").read_text("utf-8"), re.DOTALL
    )
    assert match is not None
    return match[1]
