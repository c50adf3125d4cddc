"""What a table refuses, where it is written, and with which words."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import headrace
from headrace import errors
from tests.flow.shop import Balance, Bought, declare_shop, open_shop
from tests.service import running


async def in_an_agent(deed: Callable[[headrace.App], Callable[[], Any]], *, partitions: int = 1) -> Any:
    """Declare with `deed`, then call what it returns while an event of key 1 is in hand."""
    app = headrace.App("trial")
    source: headrace.Topic[int, bytes] = app.topic("in", key_type=int, partitions=partitions)
    act = deed(app)
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @app.agent(source)
    async def try_it(events: headrace.Stream[bytes]) -> None:
        async for _ in events:
            try:
                done.set_result(act())
            except (errors.HeadraceError, KeyError, TypeError) as error:
                done.set_exception(error)

    async with running(app) as service:
        await service.send(source, b"", key=1)
        await service.until_applied()
        return await done


def writing(value: Any, value_type: Any, *, key: Any = 1, key_type: Any = int) -> Any:
    """Write this value into a table of this type."""

    def declare(app: headrace.App) -> Callable[[], Any]:
        table = app.Table("rows", key_type=key_type, value_type=value_type)
        return lambda: table.__setitem__(key, value)

    return declare


class Reading(msgspec.Struct, frozen=True):
    """A value with a float inside."""

    degrees: float


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_nan_and_infinity_are_refused_at_the_write(value: float) -> None:
    cases: list[tuple[Any, Any]] = [
        (value, float),
        (Reading(value), Reading),
        ({"a": [1.0, value]}, dict[str, list[float]]),
        ((1.0, value), tuple[float, float]),
        ({"a": {"b": value}}, Any),
    ]
    for row, row_type in cases:
        with pytest.raises(errors.UnencodableValue, match="NaN or an infinity"):
            await in_an_agent(writing(row, row_type))


@pytest.mark.parametrize(
    ("value", "value_type"),
    [
        ("1", int), (1.5, int), (True, int), (1, str), (b"a", str), ("a", bytes), ([], dict), ({}, list),
        (None, int), (Bought(1, 1), Balance), ({"cents": 1}, Balance), (1, Balance | None), (True, float),
    ],
)  # fmt: skip
async def test_a_value_of_another_type_is_refused_at_the_write(value: Any, value_type: Any) -> None:
    with pytest.raises(errors.UnencodableValue, match="the value must be"):
        await in_an_agent(writing(value, value_type))


@pytest.mark.parametrize(("key", "key_type"), [("1", int), (1, str), (True, int), ((1,), tuple[int, int])])
async def test_a_key_of_another_type_is_refused_at_the_write(key: Any, key_type: Any) -> None:
    with pytest.raises(errors.UnencodableValue, match="key must be"):
        await in_an_agent(writing(1, int, key=key, key_type=key_type))


@pytest.mark.parametrize("deed", ["write", "discard"])
async def test_a_key_of_another_partition_is_refused_and_the_fix_is_named(deed: str) -> None:
    def declare(app: headrace.App) -> Callable[[], Any]:
        table = app.Table("rows", key_type=int, default=int)
        home = app.declarations.topics["in"].partitioner
        far = next(k for k in range(100) if home.place(b"%d" % k, 4) != home.place(b"1", 4))
        return lambda: table.discard(far) if deed == "discard" else table.__setitem__(far, 1)

    with pytest.raises(errors.ForeignKey, match="Send an event to a topic that is keyed by this key"):
        await in_an_agent(declare, partitions=4)


@pytest.mark.parametrize("deed", ["read", "write"])
async def test_a_table_of_another_group_is_refused(deed: str) -> None:
    def declare(app: headrace.App) -> Callable[[], Any]:
        theirs = app.Table("theirs", key_type=int, default=int, group="other")
        doors: headrace.Topic[Any, Any] = app.topic("doors", partitions=1)

        @app.agent(doors, group="other")
        async def idle(events: headrace.Stream[bytes]) -> None:
            async for _ in events:
                pass

        return lambda: theirs[1] if deed == "read" else theirs.__setitem__(1, 1)

    with pytest.raises(errors.OutsideAgent, match="belongs to group other, the agent to group main"):
        await in_an_agent(declare)


async def test_a_table_is_not_written_outside_of_an_agent_and_not_read_outside_of_the_app() -> None:
    shop = declare_shop()
    for deed in (
        lambda: shop.balances.__setitem__(1, Balance()),
        lambda: shop.balances.discard(1),
        lambda: shop.balances[1],
        lambda: list(shop.balances.items()),
    ):
        with pytest.raises(errors.OutsideAgent):
            deed()


async def test_a_request_reads_committed_rows_and_writes_none() -> None:
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            shop.balances[event.who] = shop.balances[event.who].plus(event)

    async with running(shop.app) as service:
        await service.send(shop.buys, Bought(1, 5), key=1)
        await service.until_applied()
        async with shop.app.sending():
            assert shop.balances[1] == Balance(5, 1)
            assert shop.balances[2] == Balance()
            assert 2 not in shop.balances
            with pytest.raises(errors.OutsideAgent, match="Only an agent writes tables"):
                shop.balances[1] = Balance()


async def test_an_event_is_not_sent_where_no_worker_runs() -> None:
    shop = declare_shop()
    with pytest.raises(errors.OutsideAgent, match="outside of a running worker"):
        await shop.buys.send(key=1, value=Bought(1, 1))


async def test_an_agent_does_not_send_before_it_has_an_event() -> None:
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys)
    async def eager(events: headrace.Stream[Bought]) -> None:
        await shop.receipts.send(key=1, value=Bought(1, 1))
        async for _ in events:
            pass

    with pytest.raises(errors.OutsideAgent, match="Send while handling an event"):
        async with running(shop.app) as service:
            raise await service.failure()


async def test_an_agent_does_not_write_before_it_has_an_event() -> None:
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys)
    async def eager(events: headrace.Stream[Bought]) -> None:
        shop.balances[1] = Balance()
        async for _ in events:
            pass

    with pytest.raises(errors.OutsideAgent, match="no event is in hand"):
        async with running(shop.app) as service:
            raise await service.failure()


async def test_a_keyed_topic_takes_no_event_without_a_key_or_of_another_type() -> None:
    shop = open_shop()
    async with running(shop.app) as service:
        async with service.runtime.sending():
            with pytest.raises(errors.DeclarationError, match="needs a key"):
                await shop.buys.send(value=Bought(1, 1))
            with pytest.raises(errors.UnencodableValue, match="key must be int"):
                await shop.buys.send(key="1", value=Bought(1, 1))  # type: ignore[arg-type]
            with pytest.raises(errors.UnencodableValue, match="must be Bought"):
                await shop.buys.send(key=1, value=Balance())  # type: ignore[arg-type]
            with pytest.raises(errors.DeclarationError, match="has no partition 9"):
                await shop.buys.send(key=1, value=Bought(1, 1), partition=9)
