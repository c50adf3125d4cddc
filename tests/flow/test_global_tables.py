"""Every worker has all of a global table: committed rows of whole units, ready before anybody reads them."""

from tests.flow.priced_shop import Ordered, by_product, open_priced_shop, price_list
from tests.service import running


async def test_an_agent_reads_the_rows_of_every_partition_whatever_its_own() -> None:
    shop = open_priced_shop()
    async with running(shop.app) as service:
        await service.send_all(shop.priced, by_product(price_list(20)))
        await service.until_followed()
        orders = [(who, Ordered(who, f"p{who}")) for who in range(20)]
        await service.send_all(shop.ordered, orders)
        await service.until_applied()
        bills = service.table("bills").rows()
    assert bills == {who: {f"p{who}": 100 + who} for who in range(20)}
