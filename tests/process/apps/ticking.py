"""A service that sends from everywhere an app can: timer, crontab, task, route and command."""

from faust.cli import option
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import headrace

app = headrace.App("ticking")
marks: headrace.Topic[str, int] = app.topic("marks", key_type=str, value_type=int, partitions=4)
counts: headrace.Table[str, int] = app.Table("counts", key_type=str, value_type=int, default=int)
app.serve(counts, "/counts")


@app.agent(marks)
async def count(events: headrace.Stream[int]) -> None:
    """Add up by key."""
    async for event in events.events():
        counts[event.key] = counts[event.key] + event.value


@app.timer(interval=0.1)
async def tick() -> None:
    """Two events in one transaction."""
    await marks.send(key="timer", value=1)
    await marks.send(key="timer too", value=1)


@app.crontab("* * * * * *")
async def at_each_second() -> None:
    """Faust's cron lines may name seconds."""
    await marks.send(key="crontab", value=1)


@app.task
async def once(started: headrace.App) -> None:
    """Each event of a task is a transaction of its own, with a position."""
    sent = await marks.send(key="task", value=1)
    assert started is app
    await marks.send(key=f"task at {next(iter(sent.position.values()))}", value=1)


@app.route("/marks", methods=["POST"])
async def post(request: Request) -> Response:
    """What a request sends is committed before it is answered."""
    for key in await request.json():
        await marks.send(key=key, value=1)
    return JSONResponse({"marks": counts.get("task", 0)})


@app.command(option("--times", type=int, default=1))
async def mark(self: object, times: int) -> None:
    """Send marks from the command line."""
    for _ in range(times):
        await marks.send(key="command", value=1)
