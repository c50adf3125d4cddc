"""A correction names what it corrects, and a handler is told."""

import msgspec
import pytest

import headrace

ID = "0b6f2c1e-9f4d-4c5a-8a54-0123456789ab"


class Bought(headrace.Event, frozen=True):
    """A household paid."""

    cents: int


class PriceCorrected(headrace.Correction[Bought], frozen=True, kw_only=True):
    """It paid something else."""

    cents: int


BuyingEvent = Bought | PriceCorrected


def test_a_correction_comes_back_from_the_union_of_its_topic() -> None:
    sent = PriceCorrected(corrects=ID, reason="yesterday's price", cents=3)
    assert msgspec.json.decode(msgspec.json.encode(sent), type=BuyingEvent) == sent


def test_an_id_is_brought_into_its_usual_form_so_that_ids_can_be_compared() -> None:
    assert PriceCorrected(corrects=ID.upper(), reason="r", cents=3).corrects == ID


@pytest.mark.parametrize(
    "corrects", ["", "order-17", "<the id>", ID[:-1], ID + "0", "{" + ID + "}", ID.replace("-", ""), "_" * 36]
)
def test_what_no_event_has_as_its_id_is_refused_when_it_is_made_and_when_it_is_read(corrects: str) -> None:
    with pytest.raises(ValueError, match="names an event by its id"):
        PriceCorrected(corrects=corrects, reason="r", cents=3)
    raw = msgspec.json.encode({"type": "PriceCorrected", "corrects": corrects, "reason": "r", "cents": 3})
    with pytest.raises(msgspec.ValidationError, match="names an event by its id"):
        msgspec.json.decode(raw, type=BuyingEvent)


def test_a_correction_says_why() -> None:
    with pytest.raises(ValueError, match="reason"):
        PriceCorrected(corrects=ID, reason=" ", cents=3)
