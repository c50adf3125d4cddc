"""Probes, figures and the index: what they say at each point of a worker's life."""

import sys

import pytest

from headrace.http import metric
from headrace.http.metric import Sample
from headrace.http.source import WorkerState
from headrace.settings import Settings
from headrace.tables.view import ViewState
from headrace.vitals import Kind, Trouble
from tests.http.service import Service, client, served

balances = served("balances", int, partitions=2)


async def test_a_worker_is_ready_once_it_runs_and_all_its_partitions_serve() -> None:
    service = Service(balances)
    async with client(service) as http:
        ready = await http.get("/readyz")
        service.state = WorkerState.STARTING
        starting = await http.get("/readyz")
        service.state = WorkerState.STOPPING
        stopping = await http.get("/readyz")
        live = await http.get("/livez")
    assert (ready.status_code, ready.json()["state"]) == (200, "running")
    assert (starting.status_code, starting.json()["state"]) == (503, "starting")
    assert (stopping.status_code, stopping.json()["state"]) == (503, "stopping")
    assert live.status_code == 200


async def test_a_worker_that_was_found_dead_tells_anybody_why_and_is_not_ready() -> None:
    service = Service(balances, settings=Settings(http="127.0.0.1:0", tokens=("0" * 64,)))
    service.trouble = Trouble(Kind.FETCH, "the reader of sales/3 has shown no sign of life for 20 s")
    async with client(service) as http:
        live, ready = await http.get("/livez"), await http.get("/readyz")
    assert (live.status_code, ready.status_code) == (503, 503)
    assert live.headers["content-type"] == "application/problem+json"
    assert live.json() == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "dead fetch: the reader of sales/3 has shown no sign of life for 20 s",
        "trouble": "dead fetch",
    }


async def test_a_restore_tells_how_far_it_is() -> None:
    service = Service(balances)
    service.owned[1].close(ViewState.RESTORING)
    service.owned[1].restore_offset, service.owned[1].restore_end = 41, 100
    async with client(service) as http:
        answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["partitions"] == {
        "main/0": {"state": "serving", "position": {"checkout.events/0": 0}},
        "main/1": {"state": "restoring", "restored": 0.41, "position": {"checkout.events/1": 0}},
    }


async def test_metrics_show_the_workers_figures_and_count_answers() -> None:
    service = Service(balances)
    service.samples = [
        Sample(metric.UNITS, (), 12),
        Sample(metric.LAG, ("main", "checkout.events", "0"), 3),
    ]
    service.put(balances, 1, 5)
    async with client(service) as http:
        for key in (1, 1, 2):
            await http.get(f"/balances/{key}")
        lines = (await http.get("/metrics")).text.splitlines()
    assert "headrace_units_total 12.0" in lines
    assert 'headrace_lag_offsets{group="main",partition="0",topic="checkout.events"} 3.0' in lines
    assert 'headrace_reads_total{read="key",status="200",table="balances"} 2.0' in lines
    assert 'headrace_reads_total{read="key",status="404",table="balances"} 1.0' in lines
    assert 'headrace_read_seconds_count{read="key",table="balances"} 3.0' in lines
    assert 'headrace_http_requests_total{status="200"} 2.0' in lines
    assert 'headrace_http_requests_total{status="404"} 1.0' in lines
    assert "headrace_http_request_seconds_count 3.0" in lines


async def test_without_prometheus_the_answer_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    async with client(Service(balances)) as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 501
    assert "headrace[prometheus]" in answer.json()["detail"]


async def test_the_index_says_what_is_here() -> None:
    async with client(Service(balances)) as http:
        answer = (await http.get("/")).json()
    assert answer["app"] == "loyalty"
    assert answer["tables"] == [{"name": "balances", "path": "/balances", "group": "main", "partitions": 2}]


async def test_head_is_answered_where_get_is() -> None:
    async with client(Service(balances)) as http:
        for path in ("/", "/livez", "/readyz", "/metrics", "/balances"):
            assert (await http.head(path)).status_code == 200
