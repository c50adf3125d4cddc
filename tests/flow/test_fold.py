"""What an agent writes is a fold of its events, in order, each once."""

import headrace
from tests.flow.shop import Balance, Bought, by_key, declare_shop, fold, open_shop, purchases
from tests.service import running


async def test_a_table_is_the_fold_of_its_events() -> None:
    shop, events = open_shop(), purchases(500)
    async with running(shop.app) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.table("balances").rows() == fold(events)
        assert service.table("balances")[3] == fold(events)[3]
