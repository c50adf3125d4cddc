"""Traces: the context of an event goes on into what is sent for it, and spans tell its way where recorded."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import headrace
from headrace.events.envelope import Headers
from headrace.flow.spans import Spans
from headrace.flow.stream import Delivery
from headrace.log.simulated.log import SimulatedLog
from headrace.runtime import Runtime
from tests.service import Service, quick

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
UNSAMPLED = SAMPLED[:-1] + b"0"


class Noted(headrace.Event, frozen=True):
    text: str


app = headrace.App("notes")
notes: headrace.Topic[str, Noted] = app.topic("notes.in", key_type=str, value_type=Noted, partitions=1)
echoes: headrace.Topic[str, Noted] = app.topic("notes.out", key_type=str, value_type=Noted, partitions=1)


@app.agent(notes)
async def echo(events: headrace.Stream[Noted]) -> None:
    async for event in events:
        if event.text == "bad":
            raise ValueError("bad")
        await echoes.send(value=event)


@app.route("/notes", methods=["POST"])
async def note(request: Request) -> Response:
    await notes.send(key="k", value=Noted((await request.json())["text"]))
    return JSONResponse({})


class Exporter(InMemorySpanExporter):
    """Keeps spans, and wakes who waits for the first."""

    def __init__(self) -> None:
        super().__init__()
        self.has_span = asyncio.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.has_span.set()
        return super().export(spans)


class Recorder:
    """What a tracer provider was given."""

    def __init__(self) -> None:
        self._exporter = Exporter()
        self.has_span = self._exporter.has_span
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.provider.shutdown()


@asynccontextmanager
async def noting(spans: Spans | None = None) -> AsyncIterator[Service]:
    log = SimulatedLog()
    runtime = app.current = Runtime(app.declarations, quick(), log=log, spans=spans)
    service = Service(app, runtime, log)
    try:
        await service.until_ready()
        yield service
        await service.settle()
    finally:
        await service.crash()


async def echoed(service: Service, *records: Headers) -> list[Delivery[Noted]]:
    for headers in records:
        await service.append("notes.in", b"k", b'{"type":"Noted","text":"hi"}', headers=headers)
    await service.until_applied()
    return await service.outputs(echoes)


async def post(service: Service, **headers: str) -> None:
    host, port = service.runtime.address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as http:
        (await http.post("/notes", json={"text": "hi"}, headers=headers)).raise_for_status()


async def test_each_output_carries_the_context_of_its_own_event() -> None:
    async with noting() as service:
        state = ("tracestate", b"rojo=1")
        outputs = await echoed(service, [("traceparent", SAMPLED), state], [], [("traceparent", b"00-x")])
    first, second, third = (output.headers for output in outputs)
    assert (first["traceparent"], first["tracestate"]) == (SAMPLED, b"rojo=1")
    assert "traceparent" not in second
    assert "traceparent" not in third


async def test_a_request_hands_its_context_to_its_event_and_that_to_its_output() -> None:
    async with noting() as service:
        await post(service, traceparent=SAMPLED.decode(), tracestate="rojo=1")
        await service.until_applied()
        carried = [(await service.outputs(topic))[0].headers for topic in (notes, echoes)]
    assert [headers["traceparent"] for headers in carried] == [SAMPLED, SAMPLED]
    assert [headers["tracestate"] for headers in carried] == [b"rojo=1", b"rojo=1"]


async def test_a_recorded_request_is_one_trace_from_answer_to_output(recorder: Recorder) -> None:
    async with noting(Spans(recorder.provider, "kafka")) as service:
        await post(service, traceparent=SAMPLED.decode())
        await service.until_applied()
        output = (await service.outputs(echoes))[0].headers["traceparent"].decode()
    spans = recorder.spans()
    request, sent, handled, replied = (
        spans[name] for name in ("POST /notes", "send notes.in", "process notes.in", "send notes.out")
    )
    assert [span.kind for span in (request, sent, handled, replied)] == [
        SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.PRODUCER,
    ]  # fmt: skip
    for parent, child in ((request, sent), (sent, handled), (handled, replied)):
        assert parent.context is not None
        assert child.parent is not None
        assert child.parent.span_id == parent.context.span_id
        assert f"{parent.context.trace_id:032x}" == TRACE
    assert replied.context is not None
    assert output == f"00-{TRACE}-{replied.context.span_id:016x}-01"
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 200


async def test_a_commit_is_linked_to_the_recorded_events_of_its_unit(recorder: Recorder) -> None:
    async with noting(Spans(recorder.provider, "kafka")) as service:
        await echoed(service, [("traceparent", SAMPLED)])
    spans = recorder.spans()
    links = [link.context.span_id for link in spans["commit main"].links]
    handled = spans["process notes.in"]
    assert handled.context is not None
    assert links == [handled.context.span_id]
    assert handled.attributes is not None
    assert handled.attributes["messaging.kafka.offset"] == 0
    assert handled.attributes["headrace.agent"] == "echo"


async def test_only_recorded_events_make_spans_and_others_keep_their_context(recorder: Recorder) -> None:
    async with noting(Spans(recorder.provider, "kafka")) as service:
        plain: Headers = [("traceparent", UNSAMPLED)]
        outputs = await echoed(service, [], plain, *([[]] * 40), [("traceparent", SAMPLED)], [])
    assert outputs[1].headers["traceparent"] == UNSAMPLED
    assert outputs[42].headers["traceparent"].decode().startswith(f"00-{TRACE}-")
    assert [i for i, output in enumerate(outputs) if "traceparent" in output.headers] == [1, 42]
    assert sorted(recorder.spans()) == ["commit main", "process notes.in", "send notes.out"]


async def test_an_event_that_an_agent_raises_over_has_a_span_that_says_so(recorder: Recorder) -> None:
    async with noting(Spans(recorder.provider, "kafka")) as service:
        bad = b'{"type":"Noted","text":"bad"}'
        await service.append("notes.in", b"k", bad, headers=[("traceparent", SAMPLED)])
        await recorder.has_span.wait()
        await service.crash()
    handled = recorder.spans()["process notes.in"]
    assert handled.status.status_code is StatusCode.ERROR
    assert [event.name for event in handled.events] == ["exception"]


async def test_without_a_tracer_provider_nothing_is_recorded() -> None:
    async with noting() as service:
        assert service.runtime._spans is None
