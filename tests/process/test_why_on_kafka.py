"""`history` and `why` on a real broker, where what ends a transaction takes offsets, too."""

from pathlib import Path

from headrace.testing.kafka_broker import KafkaBroker
from tests.process.till import Till


async def test_a_key_and_its_row_are_told_from_kafka_alone(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    till = Till(tmp_path, app="till-on-kafka")
    till.environment["HEADRACE_LOG"] = f"kafka://{kafka_broker.address}"
    wrong = await till.told("ada", cents=250)
    await till.told("ada", cents=-1)
    by = await till.told("ada", cents_before=250, cents=200, corrects=wrong, reason="yesterday's price")
    await till.works_off("ada", "200")

    history = (await till.till("history", "ada", "--json")).json()
    assert [(each["type"], each["offset"]) for each in history["events"]] == [
        ("Bought", 0),
        ("Bought", 2),
        ("PriceCorrected", 4),
    ]
    assert history["events"][0]["corrected_by"][0]["event_id"] == by
    told = await till.till("why", "spent", "ada", "--json")
    assert told.status == 0, told.err
    why = told.json()
    assert [(each["event_id"], each["row"]) for each in why["events"]] == [(wrong, 250), (by, 200)]
    assert (why["position"], why["is_borne_out"]) == ({"till.buys": 6}, True)
    assert [each["error"] for each in why["refused"]] == ["ValueError"]
    assert (await till.till("history", "nobody")).status == 1
    assert (await till.till("tables")).err.count("HELD is not known of every partition") == 1
