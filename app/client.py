"""A small HTTP client: one kept connection to one service, for one thread."""

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from headrace.events.token import Token

_IDLE_MAX_S = 2.0
"""The server closes connections that idle for longer than this; a new one is opened before it may."""
_PAGE_ROWS = 1_000
_LATEST_WAIT_S = 20.0
_POSITION = "Headrace-Position"


class NoAnswer(Exception):
    """The service did not answer, or not with what was asked for."""


class Refused(NoAnswer):
    """The service answered that it does not take the request, as it is."""


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

    def get(
        self, path: str, *, seen: Token | None = None, is_latest: bool = False, wait_s: float = 0.0
    ) -> Answer:
        """Read a path. Raises: NoAnswer when nobody answers.

        `seen`: what the answer must contain. `is_latest`: it must contain all that is in the log by now.
        `wait_s`: how long the service may wait until it does; it then answers 503.
        """
        headers = {"Prefer": f"wait={wait_s:g}"} if wait_s else {}
        if seen is not None:
            headers[_POSITION] = seen.text()
        if is_latest:
            headers["Headrace-Consistency"] = "latest"
        return self._ask("GET", path, None, headers)

    def post(self, path: str, body: bytes, *, seen: Token | None = None, key: str = "") -> Answer:
        """Post JSON. What was sent before a connection broke may have been taken: repeat it under its key.

        `seen`: what the events in the body follow; the service stamps them with it. `key`: names the
        request, which is taken once, however often it is posted.
        Raises: NoAnswer; Refused for a status that no repetition will change.
        """
        headers = {"Content-Type": "application/json"}
        if seen is not None:
            headers[_POSITION] = seen.text()
        if key:
            headers["Idempotency-Key"] = key
        answer = self._ask("POST", path, body, headers)
        if 200 <= answer.status < 300:
            return answer
        kind = NoAnswer if answer.status == 503 else Refused
        raise kind(f"POST {path} at {self.address}: {answer.status} {_excerpt(answer.body)}")

    def rows(self, path: str, *, is_latest: bool = False) -> Iterator[tuple[Any, Any]]:
        """Key and value of every row of a table, page by page in key order. Raises: NoAnswer."""
        page = f"{path}?limit={_PAGE_ROWS}"
        cursor = ""
        while True:
            query = f"&cursor={quote(cursor, safe='')}" if cursor else ""
            answer = self.get(page + query, is_latest=is_latest, wait_s=_LATEST_WAIT_S if is_latest else 0.0)
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

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if time.monotonic() - self._used_at > _IDLE_MAX_S:
            self._connection.close()
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise NoAnswer(f"{method} {path} at {self.address}: {error!r}") from error
        self._used_at = time.monotonic()
        token = response.headers.get(_POSITION)
        return Answer(response.status, Token.parse(token) if token else None, content)


def _excerpt(body: bytes) -> str:
    return body[:300].decode(errors="replace")
