"""`why` as people and scripts use it: after a worker, from the log alone."""

import shutil
from pathlib import Path

from tests.process.till import Till


async def test_a_row_is_told_by_the_events_that_made_it(tmp_path: Path) -> None:
    till = Till(tmp_path)
    wrong = await till.told("ada", cents=250)
    await till.told("ada", cents=-1)
    by = await till.told("ada", cents_before=250, cents=200, corrects=wrong, reason="yesterday's price")
    await till.works_off("ada", "200")
    shutil.rmtree(tmp_path / ".headrace" / "data")

    told = await till.till("why", "spent", "ada", "--json")
    assert told.status == 0
    why = told.json()
    assert (why["row"], why["told"], why["is_borne_out"], why["left_out"]) == (200, 200, True, 0)
    assert [(event["event_id"], event["row"]) for event in why["events"]] == [(wrong, 250), (by, 200)]
    assert [event["offset"] for event in why["events"]] == [0, 2]
    assert why["events"][0]["corrected_by"][0]["reason"] == "yesterday's price"
    assert [(each["offset"], each["error"]) for each in why["refused"]] == [(1, "ValueError")]

    shown = (await till.till("why", "spent", "ada", "--limit", "1")).out
    for sentence in (
        "spent ada: 200",
        "(1 older events are left out",
        "  2. till.buys",
        "refused by add_up",
    ):
        assert sentence in shown
    assert (await till.till("why", "spent", "nobody")).status == 1
    assert (await till.till("why", "earned", "ada")).status == 2


async def test_a_row_that_its_events_do_not_make_any_more_is_told_as_such(tmp_path: Path) -> None:
    till = Till(tmp_path)
    await till.told("ada", cents=250)
    await till.works_off("ada", "250")
    service = tmp_path / "till.py"
    service.write_text(service.read_text().replace("+= bought.cents - before", "-= bought.cents"))
    told = await till.till("why", "spent", "ada")
    assert told.status == 1
    assert "THE EVENTS BELOW MAKE ANOTHER ROW: -250" in told.out
