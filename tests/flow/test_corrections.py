"""A correction in a topic's union: who handles it knows which event it corrects."""

import headrace
from tests.service import running


class Bought(headrace.Event, frozen=True):
    """Somebody has bought something."""

    cents: int


class PriceCorrected(headrace.Correction[Bought], frozen=True, kw_only=True):
    """It had another price."""

    cents: int


BuyingEvent = Bought | PriceCorrected


async def test_a_handler_is_told_which_event_is_corrected_also_one_whose_producer_gave_it_no_id() -> None:
    app = headrace.App("till")
    buys: headrace.Topic[str, BuyingEvent] = app.topic("buys", key_type=str, value_type=BuyingEvent)
    paid: headrace.Table[str, dict[str, int]] = app.Table("paid", value_type=dict[str, int], default=dict)

    @app.agent(buys)
    async def book(events: headrace.Stream[BuyingEvent]) -> None:
        async for delivery in events.events():
            booked = paid[delivery.key]
            booked[delivery.corrects or delivery.event_id] = delivery.value.cents
            paid[delivery.key] = booked

    async with running(app) as service:
        named = await service.send(buys, Bought(250), key="ada")
        await service.until_applied()
        (partition,) = (place.partition for place in named.position)
        await service.append("buys", b"ada", b'{"type":"Bought","cents":3}', partition=partition)
        await service.until_applied()
        nameless = next(id_ for id_ in service.table("paid")["ada"] if id_ != named.event_id)
        for corrected, cents in ((named.event_id, 200), (nameless, 2)):
            correction = PriceCorrected(corrects=corrected, reason="the shelf said so", cents=cents)
            await service.send(buys, correction, key="ada")
        await service.until_applied()
        assert service.table("paid").rows() == {"ada": {named.event_id: 200, nameless: 2}}
