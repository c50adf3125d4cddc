"""Declaring an app: what Faust has and headrace does not is refused there and then, with a way out."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import faust
import pytest

import headrace
from headrace import errors
from headrace.log.simulated.log import SimulatedLog
from headrace.runtime import Runtime
from tests.flow.shop import Bought, declare_shop, open_shop
from tests.service import running


@pytest.fixture
def app() -> headrace.App:
    """An app without declarations."""
    return headrace.App("trial")


class Account(faust.Record):
    """A value as Faust users have them."""

    name: str


async def idle(events: Any) -> None:
    """Take every event and do nothing."""
    async for _ in events:
        pass


REFUSED: dict[str, Callable[[Any], Any]] = {
    "topic pattern": lambda app: app.topic("a", pattern="a.*"),
    "two names": lambda app: app.topic("a", "b"),
    "no name": lambda app: app.topic(),
    "no partition": lambda app: app.topic("a", partitions=0),
    "serializer": lambda app: app.topic("a", value_serializer="json"),
    "faust.Record": lambda app: app.topic("a", value_type=Account),
    "partitioner": lambda app: app.topic("a", partitioner="random"),
    "envelope": lambda app: app.topic("a", envelope="xml"),
    "start": lambda app: app.topic("a", start="middle"),
    "topic twice": lambda app: [app.topic("a"), app.topic("a")],
    "agent without topic": lambda app: app.agent()(idle),
    "agent on a name": lambda app: app.agent("a")(idle),
    "concurrency": lambda app: app.agent(app.topic("a"), concurrency=2),
    "sinks": lambda app: app.agent(app.topic("a"), sink=[1]),
    "agent twice": lambda app: [app.agent(app.topic(n), name="same")(idle) for n in "ab"],
    "agent of another app": lambda app: app.agent(headrace.App("other").topic("a"))(idle),
    "group name": lambda app: app.agent(app.topic("a"), group="a.b")(idle),
    "table window": lambda app: app.Table("t", default=int, window=5),
    "table partitions": lambda app: app.Table("t", default=int, partitions=5),
    "table without type": lambda app: app.Table("t"),
    "table name": lambda app: app.Table("a\0b", default=int),
    "table twice": lambda app: [app.Table("t", default=int) for _ in "ab"],
    "table of records": lambda app: app.Table("t", value_type=Account),
    "table key": lambda app: app.Table("t", key_type=float, default=int),
    "serve malformed": lambda app: app.serve(app.Table("t", default=int), "rows/{key}"),
    "serve reserved": lambda app: app.serve(app.Table("t", default=int), "/metrics"),
    "serve a stranger's": lambda app: app.serve(headrace.App("x").Table("t", default=int), "/t"),
    "route without slash": lambda app: app.route("rows")(idle),
    "route reserved": lambda app: app.route("/livez")(idle),
    "a generator as agent": lambda app: app.agent(app.topic("a"))(lambda events: None),
    "an app id": lambda app: headrace.App("a b"),
}
FAUSTS = {
    "app": ["stream", "channel", "page", "table_route", "topic_route", "SetTable", "send"],
    "table": ["tumbling", "hopping", "clear"],
    "agent": ["send", "cast", "ask", "add_sink"],
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_that_cannot_hold_is_refused_with_a_sentence_and_a_way_out(
    case: str, app: headrace.App
) -> None:
    with pytest.raises(errors.DeclarationError) as caught:
        REFUSED[case](app)
    assert caught.value.next_step


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner in FAUSTS for name in FAUSTS[owner]])
def test_what_only_faust_has_is_refused_at_its_first_use(owner: str, name: str, app: headrace.App) -> None:
    owners = {"app": app, "table": app.Table("t", default=int), "agent": app.agent(app.topic("a"))(idle)}
    with pytest.raises(errors.NotSupported, match=r"not part of headrace"):
        getattr(owners[owner], name)(1)


def test_an_argument_nobody_knows_is_a_type_error(app: headrace.App) -> None:
    with pytest.raises(TypeError, match="partition"):
        app.topic("a", partition=3)


@pytest.mark.parametrize("name", ["take", "group_by", "filter", "through", "items", "noack"])
async def test_what_a_stream_cannot_do_is_said_at_its_first_use(name: str) -> None:
    shop = declare_shop(partitions=1)

    @shop.app.agent(shop.buys)
    async def use(events: headrace.Stream[Bought]) -> None:
        getattr(events, name)(1)

    with pytest.raises(errors.NotSupported, match=f"Stream.{name}"):
        async with running(shop.app) as service:
            raise await service.failure()


def test_a_topic_takes_its_retention_in_seconds_or_as_a_timedelta(app: headrace.App) -> None:
    assert app.topic("a", retention=1.5).spec.retention_ms == 1_500
    assert app.topic("b", retention=timedelta(hours=1)).spec.retention_ms == 3_600_000
    assert app.topic("c", compacting=True).spec.is_compacted


def test_a_table_infers_its_types_as_faust_does(app: headrace.App) -> None:
    table = app.Table("visits", default=int)
    assert (table.values.value_type, table.keys.to_wire("a")) == (int, b"a")


def test_settings_may_be_given_as_arguments_of_the_app() -> None:
    settings = headrace.App("trial", http="127.0.0.1:7070", unit_records_max=5).settings_of_run().settings
    assert (settings.http, settings.unit_records_max) == ("127.0.0.1:7070", 5)
    over = headrace.App("trial", http="127.0.0.1:7070").settings_of_run({"http": "127.0.0.1:9"})
    assert over.settings.http == "127.0.0.1:9"


async def test_each_run_of_an_app_is_a_new_runtime(app: headrace.App) -> None:
    first, second = app.new_runtime(), app.new_runtime()
    assert isinstance(first, Runtime)
    assert first is not second
    assert app.current is second
    assert first.declarations is second.declarations is app.declarations


async def test_a_tick_is_one_transaction_and_a_task_sends_one_by_one() -> None:
    shop, log = open_shop(partitions=1), SimulatedLog()

    async def two() -> None:
        for cents in (1, 2):
            await shop.buys.send(key=1, value=Bought(1, cents))

    async with running(shop.app, log=log) as service:
        ends: list[int] = []
        for scope in (shop.app._tick, shop.app._direct):
            deed: Callable[[], Awaitable[Any]] = scope(two)
            await deed()
            await service.until_applied()
            ends.append((await service.outputs(shop.buys))[-1].offset)
        # On the simulated log a transaction ends with a marker, which takes an offset of its own.
        assert ends == [1, 5]


def test_a_timer_a_crontab_and_a_task_leave_the_function_as_it_was(app: headrace.App) -> None:
    async def beat() -> None:
        """Beat once."""

    assert app.timer(1.0)(beat) is beat
    assert app.crontab("* * * * *")(beat) is beat
    assert app.task(beat) is beat
    assert app.task()(beat) is beat


async def test_a_timer_outside_of_a_run_says_so(app: headrace.App) -> None:
    async def beat() -> None:
        """Beat once."""

    with pytest.raises(errors.OutsideAgent, match="trial is not running"):
        await app._tick(beat)()


def test_a_refused_option_says_what_to_write_instead() -> None:
    app = headrace.App("refusing")
    with pytest.raises(errors.DeclarationError, match="as many partitions as the inputs of its group"):
        app.Table("counts", default=int, partitions=4)
    with pytest.raises(errors.DeclarationError, match="declare more partitions"):
        app.agent(app.topic("orders"), concurrency=4)
    assert app.Table("sums", default=int, help="Sums by article.").__doc__ == "Sums by article."
