"""A global table is a group of its own with one agent; declared otherwise, it says what to write."""

import pytest

import headrace
from headrace import Stream, errors
from headrace.declarations import check_global_tables
from tests.flow.priced_shop import Ordered, Price, Priced, PricedShop, declare_priced_shop, open_priced_shop


def refusal(shop: PricedShop) -> str:
    with pytest.raises(errors.DeclarationError) as refused:
        check_global_tables(shop.app.declarations)
    return str(refused.value)


def test_a_global_table_is_a_group_named_like_it_unless_told_otherwise() -> None:
    app = headrace.App("shop")
    assert app.GlobalTable("prices", default=int).group == "prices"
    assert app.GlobalTable("rates", default=int, group="exchange").group == "exchange"
    check_global_tables(open_priced_shop().app.declarations)


def test_it_takes_the_arguments_of_a_table_and_refuses_the_same_ones() -> None:
    app = headrace.App("shop")
    table = app.GlobalTable("prices", default=float, help="What things cost.")
    assert (table.__doc__, table.key_type, table.values.value_type) == ("What things cost.", str, float)
    with pytest.raises(errors.DeclarationError, match="as many partitions as the inputs"):
        app.GlobalTable("rates", default=int, partitions=4)
    with pytest.raises(errors.DeclarationError, match="declared twice"):
        app.Table("prices", default=int)
    with pytest.raises(errors.NotSupported):
        app.SetGlobalTable("names", default=int)


def test_without_an_agent_in_its_group_it_says_how_to_declare_one() -> None:
    assert '@app.agent(topic, group="prices")' in refusal(declare_priced_shop())


def test_two_agents_in_its_group_are_one_too_many() -> None:
    shop = open_priced_shop()

    @shop.app.agent(shop.priced, group="prices")
    async def audit(events: Stream[Priced]) -> None:
        async for _ in events:
            pass

    assert "2 agents" in refusal(shop)
    assert "another group=" in refusal(shop)


def test_an_agent_of_another_group_whose_code_writes_it_is_named() -> None:
    shop = declare_priced_shop()

    @shop.app.agent(shop.priced, name="price")
    async def price(events: Stream[Priced]) -> None:
        async for event in events:
            shop.prices[event.product] = Price(event.cents)

    assert "agent price of group main writes global table prices" in refusal(shop)
    assert '@app.agent(topic, group="prices")' in refusal(shop)


def test_an_agent_that_only_has_a_variable_of_the_same_name_is_not_taken_for_a_writer() -> None:
    shop = open_priced_shop()
    known = shop.prices

    @shop.app.agent(shop.ordered, name="tally")
    async def tally(events: Stream[Ordered]) -> None:
        async for event in events:
            prices: dict[str, Price] = {}
            prices[event.product] = known[event.product]

    check_global_tables(shop.app.declarations)


def test_another_table_in_its_group_is_sent_away() -> None:
    shop = open_priced_shop()
    shop.app.Table("changes", default=int, group="prices")
    assert "table changes is in group prices" in refusal(shop)
    assert "another group=" in refusal(shop)
