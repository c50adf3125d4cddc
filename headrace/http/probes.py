"""What orchestrators and people ask first: does it live, is it ready, what is here."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.types import Send

from headrace.http.problems import Problem
from headrace.http.source import ReadSource, WorkerState
from headrace.tables.view import PartitionView, ViewState


def livez(source: ReadSource) -> tuple[int, Any] | Problem:
    """200 while every part goes on that must; else 503, which names the part, and the worker ends.

    Whoever gets no answer at all has asked a worker whose loop stands still.
    """
    if (trouble := source.trouble) is None:
        return 200, {"status": "alive"}
    return Problem(503, f"{trouble.kind.value}: {trouble.what}", trouble=trouble.kind.value)


def readyz(source: ReadSource, *, is_trusted: bool) -> tuple[int, Any]:
    """200 once every partition of this worker, owned or followed, answers or stands still; else 503.

    One that stands still is named; the others are not taken from their readers because of it.
    Input positions are for the trusted only.
    """
    views, followed = source.views(), source.followed()
    is_ready = source.state is WorkerState.RUNNING and source.trouble is None
    is_ready = is_ready and all(view.is_settled for view in [*views, *followed])
    told: dict[str, Any] = {"state": source.state.value, "partitions": _partitions(views, is_trusted)}
    if followed:
        told["followed"] = _partitions(followed, is_trusted)
    return 200 if is_ready else 503, told


def index(source: ReadSource) -> tuple[int, Any]:
    """What this service is and where its tables are."""
    return 200, {
        "app": source.app_id,
        "state": source.state.value,
        "tables": [
            {"name": table.name, "path": table.path, "group": table.group, "partitions": table.partitions}
            for table in source.served_tables
        ],
        "routes": [{"path": route.path, "methods": list(route.methods)} for route in source.user_routes],
        "links": {
            "live": "/livez",
            "ready": "/readyz",
            "metrics": "/metrics",
            "description": "/openapi.json",
        },
    }


async def send_json(send: Send, answer: tuple[int, Any] | Problem) -> int:
    """Send a document that is never to be cached; the result is the status."""
    if isinstance(answer, Problem):
        return await answer.send(send)
    status, document = answer
    body = msgspec.json.encode(document)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return status


def _partitions(views: Sequence[PartitionView], is_trusted: bool) -> dict[str, Any]:
    return {f"{view.group}/{view.partition}": _partition(view, is_trusted) for view in views}


def _partition(view: PartitionView, is_trusted: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"state": view.state.value}
    if view.state is ViewState.RESTORING:
        # An end of 0 is one that is not known yet.
        shown["restored"] = round(view.restore_offset / view.restore_end, 4) if view.restore_end else 0.0
    if is_trusted:
        shown["position"] = {f"{place.topic}/{place.partition}": at for place, at in view.position.items()}
    return shown
