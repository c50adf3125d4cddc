"""A service with a global table under test: rows that look things up are held to what they found there."""

from random import Random

import pytest

from headrace.testing import Crash, Join, Rebalance, Send, assert_fold, harness
from headrace.testing.items import Outage
from headrace.testing.world import PromiseBroken
from tests.flow.priced_shop import Ordered, Price, Priced, PricedShop, open_priced_shop
from tests.process.apps import pricing


def story(shop: PricedShop, rng: Random, count: int) -> list[Send]:
    """Prices that change while orders are billed."""
    items: list[Send] = []
    for number in range(count):
        product = f"p{rng.randrange(5)}"
        if rng.random() < 0.4:
            items.append(Send(shop.priced, Priced(product, rng.choice((0, number + 1))), key=product))
        else:
            who = rng.randrange(4)
            items.append(Send(shop.ordered, Ordered(who, product), key=who))
    return items


async def test_a_table_of_the_harness_shows_a_global_table_at_every_worker() -> None:
    shop = open_priced_shop()
    async with harness(shop.app, workers=2) as h:
        await h.send(shop.priced, Priced("bread", 120), key="bread")
        await h.send(shop.ordered, Ordered(1, "bread"), key=1)
        assert h.table("prices") == {"bread": Price(120)}
        assert h.table(shop.bills)[1] == {"bread": 120}
        for worker in h.workers:
            views = [view for view in worker.runtime.global_views() if view.group == "prices"]
            assert [view.is_served for view in views] == [True]
        await h.check()


async def test_each_worker_serves_all_of_it_over_http_and_shows_it_on_its_page() -> None:
    shop = open_priced_shop()
    shop.app.serve(shop.prices, "/prices")
    async with harness(shop.app, workers=2) as h:
        await h.run([Send(shop.priced, Priced(f"p{n}", n + 1), key=f"p{n}") for n in range(8)])
        for number, worker in enumerate(h.workers):
            http = h.http_of(number)
            for n in range(8):
                answer = await http.get(f"/prices/p{n}")
                assert (answer.status_code, answer.json()["cents"]) == (200, n + 1)
                assert answer.headers["headrace-position"]
            page = (await http.get("/prices")).json()
            assert [row["key"] for row in page["rows"]] == [f"p{n}" for n in range(8)]
            board = worker.runtime.board()
            assert {card.state for card in board.partitions if card.group == "prices"} == {"serving"}


async def test_the_page_shows_who_reads_it() -> None:
    async with harness(pricing.app) as h:
        cards = {card.name: card for card in h.workers[0].runtime.board().agents}
    assert (cards["bill"].reads, cards["bill"].writes) == (("prices",), ("bills",))
    assert cards["price"].writes == ("prices",)


@pytest.mark.parametrize("seed", range(6))
async def test_wherever_it_crashes_rows_are_the_fold_of_events_and_of_what_they_looked_up(seed: int) -> None:
    shop, rng = open_priced_shop(), Random(seed)

    def price(rows: dict[str, Price], event: Priced) -> None:
        known = rows.pop(event.product, None)
        if event.cents:
            rows[event.product] = Price(event.cents, known.changes + 1 if known else 1)

    await assert_fold(
        shop.app,
        events=story(shop, rng, 60),
        crashes=12,
        seed=seed,
        fold={shop.prices: price},
        workers=1 + seed % 2,
    )


@pytest.mark.parametrize("seed", range(3))
async def test_workers_that_come_and_go_follow_from_where_they_are(seed: int) -> None:
    shop, rng = open_priced_shop(), Random(seed)
    async with harness(shop.app) as h:
        disturbances = [Join(), Rebalance(), Crash(), Outage(), Rebalance()]
        for disturbance in disturbances:
            await h.run([*story(shop, rng, 15), disturbance])
        await h.check()


async def test_a_row_that_is_not_what_its_events_looked_up_is_found() -> None:
    shop = open_priced_shop()
    async with harness(shop.app) as h:
        await h.send(shop.priced, Priced("bread", 120), key="bread")
        await h.send(shop.ordered, Ordered(1, "bread"), key=1)
        for history in h.log.tasks.values():
            for found in history.lookups.values():
                found[:] = [b'{"cents":7}']
        with pytest.raises(PromiseBroken, match="bread"):
            await h.check()
