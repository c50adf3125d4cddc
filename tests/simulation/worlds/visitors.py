"""Visitors: they order over HTTP, with and without a key, and read with the tokens that they were given."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.events.partitioner import Partitioner
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.token import Token
from headrace.flow.requests.answer import KEPT_MS, NAME, PARTITIONS
from headrace.testing.client import Doors
from tests.simulation.jumping import time_passes
from tests.simulation.worlds.app import ID
from tests.simulation.worlds.asgi import Answer, ask
from tests.simulation.worlds.events import RATES, Order

if TYPE_CHECKING:
    from tests.simulation.worlds.world import SimulatedWorld

_PATIENCE_S = 2.5
_TRIES = 6
_MORE = 1_000
"""Numbers of the orders that come because something is to go wrong with them."""


@dataclass
class Asked:
    """An order that was sent over HTTP."""

    order: Order
    key: str
    is_accepted: bool = False
    answers: set[bytes] = field(default_factory=set)
    first_s: float = 0.0
    last_s: float = 0.0
    """When it was asked first, and when it was answered last, or not at all."""


class Visitor:
    """One of them: what it knows, and its token."""

    def __init__(self) -> None:
        self.token: Token | None = None
        self.tallied: Counter[int] = Counter()
        self.rated: Counter[int] = Counter()

    def learn(self, answer: Answer) -> None:
        """Keep the position that an answer brings."""
        if text := answer.headers.get("headrace-position"):
            token = Token.parse(text)
            self.token = token if self.token is None else self.token.merge(token)


class Visitors:
    """All visitors of a world."""

    def __init__(self, world: "SimulatedWorld") -> None:
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        """Answers that should not be, as sentences."""
        self._world = world
        self._rng = Random(f"visitors {world.shape.seed}")
        self._doors = Doors(lambda: world.workers)
        self._asked: list[Asked] = []
        self._visitor = Visitor()
        self._more = 0

    def visits(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Each request, at its moment."""
        for number in range(self._world.shape.requests):
            yield self._visit(number, self._rng.random() * self._world.shape.busy_s)

    async def order_now(self, *, has_key: bool) -> None:
        """One more order, at this moment."""
        self._more += 1
        number = _MORE + self._more
        await self._order(number, key=f'"k{number}"' if has_key else "")

    async def _visit(self, number: int, moment_s: float) -> None:
        await time_passes(moment_s)
        dice = self._rng.random()
        if dice < 0.25:
            await self._order(number, key="")
        elif dice < 0.6:
            await self._order(number, key=f'"k{number}"')
        else:
            await self._read(number)

    # --- requests

    async def _order(self, number: int, key: str) -> None:
        visitor, rng = self._visitor, self._rng
        account = rng.randrange(self._world.shape.accounts)
        order = msgspec.structs.replace(
            self._world.outside.order(f"v{number}", rng),
            account=account,
            tallied=visitor.tallied[account],
            rated=visitor.rated[account % RATES],
        )
        asked = Asked(order, key, first_s=self._world.clock.monotonic())
        self._asked.append(asked)
        headers = {"content-type": "application/json", **self._carried()}
        if key:
            headers["idempotency-key"] = key
        for _ in range(_TRIES if key else 1):
            answer = await self._ask("POST", "/orders", headers, msgspec.json.encode(order))
            asked.last_s = self._world.clock.monotonic()
            self._count("keyed order" if key else "order", answer)
            if answer is not None and answer.status == 200:
                asked.is_accepted = True
                asked.answers.add(answer.body + answer.headers.get("headrace-position", "").encode())
                visitor.learn(answer)
                if rng.random() < 0.6:
                    return
            await time_passes(rng.random() * 0.4)

    async def _read(self, number: int) -> None:
        visitor, rng = self._visitor, self._rng
        has_rates = self._world.shape.has_rates
        table = rng.choice(("mixes", "tallies", "tallies", *(["rates"] if has_rates else [])))
        key = rng.randrange(RATES if table == "rates" else self._world.shape.accounts)
        carried = self._carried() if rng.random() < 0.7 else {}
        if rng.random() < 0.2:
            carried["headrace-consistency"] = "latest"
        token = visitor.token if "headrace-position" in carried else None
        answer = await self._ask("GET", f"/{table}/{key}", carried)
        self._count(f"read of {table}", answer)
        if answer is not None and answer.status in (200, 404):
            self._hold(table, key, answer, token)
            visitor.learn(answer)
            if answer.status == 200 and table != "mixes":
                known = visitor.tallied if table == "tallies" else visitor.rated
                known[key] = max(known[key], msgspec.json.decode(answer.body))

    def _carried(self) -> dict[str, str]:
        token = self._visitor.token
        return {"headrace-position": token.text()} if token is not None else {}

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer | None:
        able = [each for each in self._world.workers if each.is_listening]
        if not able:
            return None
        worker = self._rng.choice(able)
        self._world.tell(f"{method} {path} to worker {worker.number}")
        life = worker.lives
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answer = await ask(self._doors.application(worker), method, path, headers, body)
        except TimeoutError:
            return None
        # A server that stops or dies cuts its connections: this answer would not have arrived.
        is_there = worker.is_running and worker.lives == life and not worker.was_put_out
        return answer if is_there else None

    def _count(self, what: str, answer: Answer | None) -> None:
        status = 0 if answer is None else answer.status
        self.answers[f"{what}: {status or 'no answer'}"] += 1
        self._world.tell(f"{what}: {status}")
        if status in (400, 404, 405, 409, 422, 500) and not (status == 404 and what.startswith("read")):
            assert answer is not None
            self.wrong.append(f"{what} was answered with {status}: {answer.body!r}")

    # --- what must hold

    def _hold(self, table: str, key: int, answer: Answer, token: Token | None) -> None:
        """An answer is the row as of the position that it names, which covers what was asked for."""
        text = answer.headers.get("headrace-position")
        if text is None:
            self.wrong.append(f"the read of {table} {key} names no position: {answer}")
            return
        world, group = self._world, "rates" if table == "rates" else "main"
        told = self._position(Token.parse(text))
        declared = world.shop.app.declarations.tables[table]
        partitions = 1 if group == "rates" else world.shape.partitions
        number = world.shop.orders.partitioner.place(declared.keys.to_wire(key), partitions)
        inputs = ("ratings",) if group == "rates" else ("orders", "notes")
        position = {name: told.get(TopicPartition(name, number), 0) for name in inputs}
        place = TopicPartition(f"shop.{group}.changelog", number)
        expected = world.model.expected(place, position, world.ledger)
        if expected is None:
            return
        row = expected.get(declared.row_prefix + declared.keys.to_store(key))
        got = answer.body if answer.status == 200 else None
        if row != got:
            self.wrong.append(f"{table} {key} was read as {got!r} at {position}, where it is {row!r}")
        for at, offset in self._position(token).items() if token is not None else ():
            if at in {TopicPartition(name, number) for name in inputs} and told.get(at, 0) < offset:
                self.wrong.append(f"{table} {key} was read at {at} {told.get(at, 0)}, asked for {offset}")

    def _position(self, token: Token) -> Position:
        topics = self._world.ledger.topics.values()
        ids = {topic.info.name: topic.info.topic_id for topic in topics}
        return Catalog(self._world.ledger.cluster_id, ids).position(token.seen)

    async def look_back(self) -> None:
        """Now that all is quiet: what was accepted is in the log once, what was not at most once."""
        lying = Counter(
            msgspec.json.decode(record.value or b"{}", type=dict).get("id")
            for place, records in self._world.ledger.records.items()
            if place.topic == "orders"
            for record in records
            if (record.value or b"").endswith(b"}")
        )
        for asked in self._asked:
            count = lying[asked.order.id]
            if count > 1 and asked.key and self._may_have_expired(asked):
                continue
            if count > 1 or (asked.is_accepted and not count):
                self.wrong.append(f"{asked.order.id} was sent once, and is {count} times in the log")
            if asked.key and len(asked.answers) > 1:
                self.wrong.append(f"{asked.order.id} was answered in {len(asked.answers)} ways")

    def _may_have_expired(self, asked: Asked) -> bool:
        """Whether an owner of its key was followed by one that began with a clock a day ahead of that.

        Answers are kept for a day by the clocks of their owners, however they are set meanwhile; that two
        owners begin with clocks less than a day apart is what they lean on.
        """
        partition = Partitioner.MURMUR2.place(asked.key.strip('"').encode(), PARTITIONS)
        openings = self._world.ledger.openings[f"{ID}-{NAME}-{partition}"]
        before = [each.clock_off_s for each in openings if each.moment_s <= asked.first_s]
        since = [each.clock_off_s for each in openings if asked.first_s < each.moment_s <= asked.last_s]
        day_s = KEPT_MS / 1000 - (asked.last_s - asked.first_s)
        earliest_s = float("inf")
        for off_s in (*before[-1:], *since):
            if off_s - earliest_s >= day_s:
                return True
            earliest_s = min(earliest_s, off_s)
        return False
