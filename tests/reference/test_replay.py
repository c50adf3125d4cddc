"""What the replay posts, to whom, and what it does when a service stays away."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from app.client import Client, NoAnswer, Refused
from app.grocery import GroceryYear, load_year
from app.replay import Addresses, Replay
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.token import Token
from tests.reference.households import part_of, redeeming

CATALOG = Catalog("cluster", {"checkout.events": "a", "promotions.events": "b"})


class Asked(NamedTuple):
    """A request as a service gets it."""

    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Service:
    """A service that takes everything, unless `answer` says otherwise, and tells how far it is."""

    topic: str = "checkout.events"
    answer: Callable[[int], int] = lambda _: 202
    """Status by how many requests came before; 0: the connection breaks."""

    def __post_init__(self) -> None:
        self.asked: list[Asked] = []
        self._lock = threading.Lock()

    def take(self, request: Asked) -> tuple[int, str]:
        """Status and token."""
        with self._lock:
            number = len(self.asked)
            self.asked.append(request)
        seen = Token.of(Position({TopicPartition(self.topic, 0): number + 1}), CATALOG)
        if "Headrace-Position" in request.headers:
            seen = seen.merge(Token.parse(request.headers["Headrace-Position"]))
        return self.answer(number), seen.text()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Its address."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = Asked(self.path, dict(self.headers), json.loads(body or b"null"))
                status, token = service.take(asked)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Headrace-Position", token)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = _answer

            def log_message(self, *_: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, name="service", kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture(scope="module")
def year() -> GroceryYear:
    """The year of five households that redeem coupons."""
    whole = load_year()
    return part_of(whole, frozenset(sorted(redeeming(whole))[:5]))


def play(year: GroceryYear, checkout: Service, promotions: Service, loyalty: Service) -> Replay:
    """Replay the year against these services."""
    with checkout.running() as first, promotions.running() as second, loyalty.running() as third:
        replay = Replay(year, Addresses(checkout=first, promotions=second, loyalty=third))
        replay.run(lambda _: None)
    return replay


def test_every_basket_and_redemption_is_posted_once_and_under_a_key(year: GroceryYear) -> None:
    checkout, promotions = Service(), Service("promotions.events")
    replay = play(year, checkout, promotions, Service(answer=lambda _: 200))
    posted = [basket["basket_id"] for asked in checkout.asked for basket in asked.body]
    assert sorted(posted) == sorted(year.baskets.basket_ids)
    redeemed = [each for asked in promotions.asked if asked.path == "/redemptions" for each in asked.body]
    assert len(redeemed) == len(year.redemptions) == replay.progress.redemptions
    assert replay.progress.baskets == len(posted)
    keys = [asked.headers["Idempotency-Key"] for asked in (*checkout.asked, *promotions.asked)]
    assert len(set(keys)) == len(keys)


def test_redemptions_carry_the_token_that_checkout_answered_for_the_baskets_of_their_day(
    year: GroceryYear,
) -> None:
    checkout, promotions = Service(), Service("promotions.events")
    play(year, checkout, promotions, Service(answer=lambda _: 200))
    place = CATALOG.print_of(TopicPartition("checkout.events", 0))
    rung_up = [asked for asked in promotions.asked if asked.path == "/redemptions"]
    assert len(rung_up) == len(year.days_with_redemption())
    for asked in rung_up:
        paid = checkout.asked[Token.parse(asked.headers["Headrace-Position"]).seen[place] - 1]
        days = {(basket["household_id"], basket["day"]) for basket in paid.body}
        assert days == {(redeemed["household_id"], redeemed["day"]) for redeemed in asked.body}


def test_what_a_service_may_have_taken_before_it_broke_is_posted_again_under_its_key(
    year: GroceryYear,
) -> None:
    statuses = {0: 0, 1: 503}
    checkout = Service(answer=lambda number: statuses.get(number, 202))
    play(year, checkout, Service("promotions.events"), Service(answer=lambda _: 200))
    by_key: dict[str, list[Any]] = {}
    for asked in checkout.asked:
        by_key.setdefault(asked.headers["Idempotency-Key"], []).append(asked.body)
    assert sum(len(bodies) - 1 for bodies in by_key.values()) == len(statuses)
    assert all(body == bodies[0] for bodies in by_key.values() for body in bodies)


def test_a_request_that_is_refused_ends_the_replay(year: GroceryYear) -> None:
    with pytest.raises(Refused, match="400"):
        play(year, Service(answer=lambda _: 400), Service("promotions.events"), Service())


def test_the_end_is_when_loyalty_answers_a_read_that_asks_for_everything_sent(year: GroceryYear) -> None:
    loyalty = Service(answer=lambda number: 200 if number == 2 else 503)
    checkout, promotions = Service(), Service("promotions.events")
    play(year, checkout, promotions, loyalty)
    assert len(loyalty.asked) == 3
    for asked in loyalty.asked:
        assert asked.headers["Prefer"] == "wait=1"
        sent = Token.parse(asked.headers["Headrace-Position"]).seen
        assert sorted(sent.values()) == sorted((len(checkout.asked), len(promotions.asked)))


def test_nobody_there_is_no_answer() -> None:
    with Service().running() as address:
        pass
    with pytest.raises(NoAnswer):
        Client(address).get("/balances/7")
