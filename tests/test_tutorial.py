"""The tutorial's services, step by step: what each page says its code does."""

import sys
import types
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.http.metric import DEAD_LETTERS, EVENTS
from tests.service import Service, running
from tests.test_docs import python_blocks

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial"
PURCHASE = {"type": "Purchased", "household": 7, "cents": 250}


@pytest.fixture
def step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module on one page of the tutorial."""
    (block,) = [block for block in python_blocks("service") if block.file == TUTORIAL / request.param]
    module = types.ModuleType("shop")
    # msgspec and dataclasses look the names of annotations up in the module that a class says it is from.
    monkeypatch.setitem(sys.modules, "shop", module)
    exec(compile(block.code, block.place, "exec"), vars(module))
    return module


async def post(service: Service, event: dict[str, Any]) -> httpx.Response:
    host, port = service.runtime.address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as http:
        answer = await http.post("/purchases", json=event)
        await service.until_applied()
        return answer


@pytest.mark.parametrize("step", ["1-events.md"], indirect=True)
async def test_step_1_logs_what_is_bought(step: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "shop")
    async with running(step.app) as service:
        await service.send(step.purchases, step.Purchased(7, 250), key=7)
        await service.until_applied()
    assert "household 7 spent 250 cents" in caplog.messages


@pytest.mark.parametrize("step", ["2-table.md"], indirect=True)
async def test_step_2_adds_up(step: Any) -> None:
    async with running(step.app) as service:
        await service.send_all(step.purchases, [(7, step.Purchased(7, 250)), (7, step.Purchased(7, 50))])
        await service.until_applied()
        assert service.table("balances").rows() == {7: step.Balance(300, 2)}


@pytest.mark.parametrize("step", ["3-http.md"], indirect=True)
async def test_step_3_takes_purchases_and_answers_with_positions(step: Any) -> None:
    async with running(step.app) as service:
        taken = await post(service, PURCHASE)
        assert (taken.status_code, "headrace-position" in taken.headers) == (202, True)
        assert (await post(service, {"household": "x"})).status_code == 400
        host, port = service.runtime.address
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as http:
            row = await http.get("/balances/7")
        assert (row.json(), "headrace-position" in row.headers) == ({"cents": 250, "visits": 1}, True)


@pytest.mark.parametrize("step", ["4-corrections.md"], indirect=True)
async def test_step_4_applies_corrections(step: Any) -> None:
    async with running(step.app) as service:
        taken = await post(service, PURCHASE)
        wrong = {"household": 7, "cents_before": 250, "cents": 200, "reason": "yesterday's price"}
        await post(service, {"type": "PurchaseCorrected", "corrects": taken.json()["id"], **wrong})
        assert service.table("balances").rows() == {7: step.Balance(200, 1)}


@pytest.mark.parametrize("step", ["4-corrections.md"], indirect=True)
async def test_step_4_puts_what_its_agent_refuses_among_the_dead_letters(step: Any) -> None:
    async with running(step.app) as service:
        await post(service, PURCHASE)
        await post(service, {**PURCHASE, "cents": -1})
        assert service.table("balances").rows() == {7: step.Balance(250, 1)}
        shown = {(s.metric, s.labels): s.value for s in service.runtime.figures()}
    assert shown[EVENTS, ("main", "add_up")] == 1
    assert shown[DEAD_LETTERS, ("main", "add_up")] == 1
