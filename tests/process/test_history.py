"""`history` as people and scripts use it, without a worker."""

from pathlib import Path

from tests.process.till import Till


async def test_a_key_is_told_as_believed_then_and_as_corrected_now(tmp_path: Path) -> None:
    till = Till(tmp_path)
    wrong = await till.told("ada", cents=250)
    await till.told("ada", cents=99)
    by = await till.told("ada", cents_before=250, cents=200, corrects=wrong, reason="yesterday's price")
    told = (await till.till("history", "ada", "--json")).json()
    assert [event["type"] for event in told["events"]] == ["Bought", "Bought", "PriceCorrected"]
    first, second, correction = told["events"]
    assert (first["event_id"], first["value"]) == (wrong, {"type": "Bought", "cents": 250})
    assert [(each["event_id"], each["reason"], each["value"]["cents"]) for each in first["corrected_by"]] == [
        (by, "yesterday's price", 200)
    ]
    assert "corrected_by" not in second
    assert correction["corrects"] == wrong

    shown = await till.till("history", "ada", "--limit", "2")
    assert shown.status == 0
    assert "(1 older events are left out" in shown.out
    whole = (await till.till("history", "ada", "--topic", "till.buys")).out
    for sentence in (
        "CORRECTED",
        f"by {by}",
        "then    ",
        "now     ",
        f"corrects    {wrong}: yesterday's price",
    ):
        assert sentence in whole


async def test_what_is_not_there_and_what_is_no_key_are_told_apart(tmp_path: Path) -> None:
    till = Till(tmp_path)
    assert (await till.till("history", "ada")).status == 3
    assert (await till.till("topics", "--create")).status == 0
    nobody = await till.till("history", "nobody")
    assert (nobody.status, nobody.out) == (1, "")
    assert "there is no event of nobody in till.buys/" in nobody.err
    assert (await till.till("history", "ada", "--topic", "till.others")).status == 2
    assert (await till.till("history", "ada", "--topic", "no.such")).status == 2
