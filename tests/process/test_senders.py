"""Everything that sends, inside a real worker: timers, cron lines, tasks, routes and commands."""

from pathlib import Path

import httpx

from headrace.events.token import Token
from tests.process.workers import Worker, breath, running

PATIENCE_S = 30.0


async def rows(client: httpx.AsyncClient, worker: Worker, *wanted: str) -> dict[str, int]:
    """The table, once it has these keys; other processes have no way to wake this one."""
    found: dict[str, int] = {}
    while not set(wanted) <= found.keys():
        answer = await worker.get(client, "/counts")
        found = {row["key"]: row["value"] for row in answer.json()["rows"]}
        await breath()
    return found


async def test_timers_cron_lines_tasks_routes_and_commands_send_under_fausts_worker(tmp_path: Path) -> None:
    environment = {"HEADRACE_LOG": f"embedded://{tmp_path}/log.db"}
    worker = Worker("tests.process.apps.ticking", "w0", tmp_path, environment)
    async with httpx.AsyncClient(timeout=10.0) as client, running(worker):
        posted = await client.post(f"http://{worker.address}/marks", json=["route", "route"])
        assert posted.status_code == 200
        assert len(Token.parse(posted.headers["Headrace-Position"]).seen) == 1
        status, output = await worker.command("mark", "--times", "3")
        assert status == 0, output
        wanted = ("timer", "timer too", "crontab", "task", "task at 1", "route", "command")
        found = await rows(client, worker, *wanted)
        while found["command"] < 3:
            found = await rows(client, worker, *wanted)
        assert found["route"] == 2
        assert found["task"] == 1
        assert found["command"] == 3
        assert await worker.terminate() == 0, worker.tail()
