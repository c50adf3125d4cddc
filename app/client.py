"""A small HTTP client: one kept connection to one service, for one thread."""

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from headrace.events.token import Token

_IDLE_MAX_S = 2.0
"""The server closes connections that idle for longer than this; a new one is opened before it may."""
_PAGE_ROWS = 1_000


class NoAnswer(Exception):
    """The service did not answer, or not with what was asked for."""


class Answer(NamedTuple):
    """What the service answered."""

    status: int
    position: Token | None
    """Its Headrace-Position, if it named one."""
    body: bytes


class Client:
    """GET and POST over plain HTTP; standard library only, because most of a replay's time is here."""

    def __init__(self, address: str, *, timeout_s: float = 30.0) -> None:
        self.address = address
        self._connection = http.client.HTTPConnection(address, timeout=timeout_s)
        self._used_at = 0.0

    def get(self, path: str) -> Answer:
        """Read a path. Raises: NoAnswer when nobody answers."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: bytes) -> Answer:
        """Post JSON, once: what was sent before a connection broke may have been taken.

        Raises: NoAnswer, also for a status other than 2xx.
        """
        answer = self._ask("POST", path, body)
        if not 200 <= answer.status < 300:
            raise NoAnswer(f"POST {path} at {self.address}: {answer.status} {_excerpt(answer.body)}")
        return answer

    def rows(self, path: str) -> Iterator[tuple[Any, Any]]:
        """Key and value of every row of a table, page by page in key order. Raises: NoAnswer."""
        page = f"{path}?limit={_PAGE_ROWS}"
        cursor = ""
        while True:
            answer = self.get(page + (f"&cursor={quote(cursor, safe='')}" if cursor else ""))
            if answer.status != 200:
                raise NoAnswer(f"GET {page} at {self.address}: {answer.status} {_excerpt(answer.body)}")
            found = json.loads(answer.body)
            for row in found["rows"]:
                yield row["key"], row["value"]
            cursor = found["cursor"]
            if not cursor:
                return

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        if time.monotonic() - self._used_at > _IDLE_MAX_S:
            self._connection.close()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise NoAnswer(f"{method} {path} at {self.address}: {error!r}") from error
        self._used_at = time.monotonic()
        token = response.headers.get("Headrace-Position")
        return Answer(response.status, Token.parse(token) if token else None, content)


def _excerpt(body: bytes) -> str:
    return body[:300].decode(errors="replace")
