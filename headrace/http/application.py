"""The ASGI application of a worker: limits and access first, then table reads, then everything else."""

from time import perf_counter
from typing import Any
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from headrace.errors import DeclarationError
from headrace.http import openapi, probes
from headrace.http.access import UNAUTHORIZED, Guard
from headrace.http.consistency import ASKING, COOKIE, asked_by
from headrace.http.direct import DirectReads
from headrace.http.metrics import Meter, MetricsPage
from headrace.http.peers.connection import Dial
from headrace.http.peers.gate import GREETING_PATH, RESERVED, Gate
from headrace.http.peers.hop import Hop
from headrace.http.peers.proof import HOP
from headrace.http.peers.remoterow import RoutedStreams
from headrace.http.peers.routed import RoutedReads
from headrace.http.problems import CLOSE, NOT_FOUND, Problem, method_not_allowed, problem_of
from headrace.http.reads import ELSEWHERE, PointReads
from headrace.http.routes import UserRoutes
from headrace.http.rowstream import RowStreams
from headrace.http.scans import Scans
from headrace.http.source import ReadSource
from headrace.http.sse import COUNTED, HEARTBEAT_S, Streams
from headrace.http.whiteboard import whiteboard
from headrace.http.whiteboard.whiteboard import Whiteboard

_READING = ("GET", "HEAD")
_OPEN = frozenset({b"/livez", b"/readyz"})
_PAGES = frozenset({b"/", b"/livez", b"/readyz", b"/metrics", b"/openapi.json", *whiteboard.PATHS})
_NOTED = frozenset(
    {
        b"authorization",
        b"if-none-match",
        b"content-length",
        b"transfer-encoding",
        HOP,
    }
    | ASKING
)
_NO_HEADERS: dict[bytes, bytes] = {}

_URL_TOO_LONG = Problem(414, "The URL is longer than this server takes.", CLOSE)
_HEADERS_TOO_LARGE = Problem(431, "The headers are larger than this server takes.", CLOSE)
_TWO_LENGTHS = Problem(400, "Content-Length and Transfer-Encoding say two things about one body.", CLOSE)
_NO_HOST = Problem(400, "An HTTP/1.1 request has one Host.", CLOSE)
_BODY_UNWANTED = Problem(413, "A read takes no body.", CLOSE)


def build_application(
    source: ReadSource,
    *,
    heartbeat_s: float = HEARTBEAT_S,
    dial: Dial | None = None,
) -> "Application":
    """The application that serves this worker.

    Order: tables and routes are read here, once; the worker knows them before it serves.
    Raises: SettingsError for a token that is no digest; DeclarationError for paths that collide.
    """
    return Application(source, heartbeat_s, dial)


class Application:
    """Dispatches by raw path: a table read costs two look-ups in a dict and no Starlette."""

    def __init__(self, source: ReadSource, heartbeat_s: float, dial: Dial | None = None) -> None:
        _check_paths(source)
        self._source = source
        self._url_bytes_max = source.settings.http_url_bytes_max
        self._header_bytes_max = source.settings.http_header_bytes_max
        self._guard = Guard(source.settings.tokens)
        self._is_open = self._guard.is_open
        self._unasked = asked_by({}, source.settings)
        self._noted = _NOTED | {COOKIE} if source.settings.http_position_cookie else _NOTED
        self._gate = Gate(source)
        self.hop = Hop(source, dial=dial)
        """The way to the other workers of the app."""
        tables = [(quote(table.path).encode(), table) for table in source.served_tables]
        reads = {path: PointReads(source, table) for path, table in tables}
        self._reads = {p: (reads[p].respond, Meter(t.name, "key")) for p, t in tables}
        self.direct = DirectReads(
            {path: (reads[path], meter) for path, (_, meter) in self._reads.items()},
            self._guard,
            source.settings,
            self._noted,
        )
        """Answers plain reads in front of the application."""
        self._routed = {p: RoutedReads(source, self.hop, t, reads[p]) for p, t in tables}
        self._scans = {p: (Scans(source, t, self.hop).respond, Meter(t.name, "scan")) for p, t in tables}
        self._routes = UserRoutes(source, source.user_routes, self.hop)
        self._description = openapi.describe(source)
        self._meter = Meter()
        of_tables = [meter for _, meter in (*self._reads.values(), *self._scans.values())]
        self._metrics = MetricsPage(source, [self._meter, *of_tables], self.hop.figures)
        self._streams = Streams(
            source.settings.http_streams_max,
            count=lambda status: self._meter.count(status, 0.0),
            heartbeat_s=heartbeat_s,
        )
        self._row_streams = {p: RowStreams(source, reads[p], t.group, self._streams) for p, t in tables}
        self._routed_streams = {p: RoutedStreams(self.hop, self._routed[p], self._streams) for p, _ in tables}
        by_name = {table.name: (table, reads[path]) for path, table in tables}
        self._whiteboard = Whiteboard(source, by_name, self._streams)

    def paths(self) -> list[str]:
        """Every path that is answered by more than 404, with its parameters in braces."""
        tables = [path.decode() for path in self._reads]
        routes = [route.path for route in self._source.user_routes]
        pages = [path.decode() for path in (*_PAGES, GREETING_PATH)]
        return sorted({*pages, *tables, *(f"{path}/{{key}}" for path in tables), *routes})

    def end_streams(self) -> None:
        """Let every open stream and every wait end, saying that the worker stops; new ones are refused."""
        self._streams.end()
        self._source.waits.room.close()

    def close(self) -> None:
        """Let go of the connections to other workers; called once nothing is answered any more."""
        self.hop.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # The ASGI specification's way to say that lifespan and websockets are not spoken here.
            raise RuntimeError(f"this application speaks HTTP only, not {scope['type']}")
        started = perf_counter()
        meter, status = self._meter, 500
        try:
            meter, status = await self._answer(scope, receive, send)
        finally:
            if status != COUNTED:
                meter.count(status, perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> tuple[Meter, int]:
        path: bytes = scope["raw_path"]
        if len(path) + len(scope["query_string"]) > self._url_bytes_max:
            return self._meter, await _URL_TOO_LONG.send(send)
        header_bytes, hosts, noted, accept, noted_names = 0, 0, _NO_HEADERS, b"", self._noted
        for name, value in scope["headers"]:
            header_bytes += len(name) + len(value) + 4
            if name in noted_names:
                if not noted:
                    noted = {}
                # Repeated fields mean the same as one list (RFC 9110, 5.3); a list is no valid token
                # and no valid length.
                noted[name] = noted[name] + b", " + value if name in noted else value
            elif name == b"accept":
                accept = value
            elif name == b"host":
                hosts += 1
        if header_bytes > self._header_bytes_max:
            return self._meter, await _HEADERS_TOO_LARGE.send(send)
        # What two servers would read in two ways is read by none (RFC 9112, 3.2 and 6.3).
        if hosts != 1 and (hosts or scope.get("http_version") == "1.1"):
            return self._meter, await _NO_HOST.send(send)
        if noted and b"transfer-encoding" in noted and b"content-length" in noted:
            return self._meter, await _TWO_LENGTHS.send(send)
        is_greeting = path == GREETING_PATH
        if is_greeting or HOP in noted:
            refusal = self._gate.refusal(noted.get(HOP, b""), scope)
            if refusal is not None or is_greeting:
                return self._meter, await self._gate.answer(refusal, noted.get(HOP), scope, send)
        is_trusted = self._is_open or self._guard.admits(noted.get(b"authorization"))
        if not is_trusted and path not in _OPEN:
            is_person = path == b"/" and b"text/html" in accept and scope["method"] == "GET"
            refuse = whiteboard.send_door if is_person else UNAUTHORIZED.send
            return self._meter, await refuse(send)

        if scope["method"] in _READING:
            answered = await self._answer_read(scope, noted, accept, receive, send)
            if answered is not None:
                return answered
        if path in _PAGES:
            return self._meter, await self._answer_page(scope, accept, is_trusted, receive, send)
        is_table = path in self._scans or path[: path.rfind(b"/")] in self._reads
        others = _READING if is_table else ()
        length = noted.get(b"content-length")
        routed = await self._routes.respond(scope, receive, send, length, others)
        return self._meter, await NOT_FOUND.send(send) if routed is None else routed

    async def _answer_read(
        self, scope: Scope, noted: dict[bytes, bytes], accept: bytes, receive: Receive, send: Send
    ) -> tuple[Meter, int] | None:
        """Answer a read of a table; None when the path is none's."""
        path: bytes = scope["raw_path"]
        cut = path.rfind(b"/")
        scan = self._scans.get(path)
        read = self._reads.get(path[:cut]) if scan is None else None
        if noted and (scan or read) and _has_body(noted):
            return self._meter, await _BODY_UNWANTED.send(send)
        asked = asked_by(noted, self._source.settings) if noted and (scan or read) else self._unasked
        if isinstance(asked, Problem):
            return self._meter, await asked.send(send)
        if read is not None and b"text/event-stream" in accept:
            streams, is_head = self._row_streams[path[:cut]], scope["method"] == "HEAD"
            status = await streams.respond(path[cut + 1 :], is_head, receive, send, asked)
            if status == ELSEWHERE:
                routed = self._routed_streams[path[:cut]]
                status = await routed.respond(path[cut + 1 :], scope, receive, send, asked)
            return self._meter, status
        if read is not None:
            respond_key, meter = read
            status = await respond_key(path[cut + 1 :], noted.get(b"if-none-match"), send, asked)
            if status == ELSEWHERE:
                status = await self._routed[path[:cut]].respond(path[cut + 1 :], scope, send, asked)
            return meter, status
        if scan is not None:
            respond_scan, meter = scan
            return meter, await respond_scan(scope, send, asked)
        return None

    async def _answer_page(
        self, scope: Scope, accept: bytes, is_trusted: bool, receive: Receive, send: Send
    ) -> int:
        path: bytes = scope["raw_path"]
        if scope["method"] not in _READING:
            return await method_not_allowed(_READING).send(send)
        answer: tuple[int, Any] | Problem
        try:
            match path:
                case b"/livez":
                    answer = probes.livez(self._source)
                case b"/readyz":
                    answer = probes.readyz(self._source, is_trusted=is_trusted)
                case b"/metrics":
                    return await self._metrics.respond(send)
                case b"/openapi.json":
                    answer = 200, self._description
                case b"/" if b"text/html" not in accept:
                    answer = probes.index(self._source)
                case _:
                    return await self._whiteboard.respond(path, scope["query_string"], receive, send)
        except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
            return await problem_of(error).send(send)
        return await probes.send_json(send, answer)


def _has_body(noted: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in noted or noted.get(b"content-length", b"0") != b"0"


def _check_paths(source: ReadSource) -> None:
    """Refuse what could never be reached, or would hide something else."""
    taken = {page.decode() for page in _PAGES}
    for table in source.served_tables:
        path = table.path
        if not path.startswith("/") or path.endswith("/") or any(mark in path for mark in "{}%?#"):
            raise DeclarationError(f"table {table.name} cannot be served at {path!r}: not a plain path")
        if path in taken or path == RESERVED:
            raise DeclarationError(f"table {table.name} cannot be served at {path}: the path is taken")
        taken.add(path)
    tables = {table.path for table in source.served_tables}
    pages = taken - tables
    for route in source.user_routes:
        is_read = any(method.upper() in _READING for method in route.methods)
        if route.path in pages:
            raise DeclarationError(f"the route {route.path} is headrace's own")
        if is_read and (route.path in tables or route.path.rpartition("/")[0] in tables):
            raise DeclarationError(f"GET {route.path} is hidden by the table that is served there")
