"""The year at the tills, played against the services over HTTP.

Two ways lead into checkout, as in a chain that is being rebuilt. A household-day with a redemption is
rung up at a **till**: its baskets at checkout, then its redemptions at promotions, with the token that
checkout answered. All other baskets come through the **feed**, in large batches. Tills and feed know
nothing of each other, and nobody here waits for loyalty: each redemption is stamped with the baskets it
follows, so loyalty does the waiting.

What must hold across the two ways: a household's baskets may reach its tables in any order. They may,
because a balance is a sum, the days of its coupons are a set, and a receipt is kept unless it is older.
A redemption depends on the baskets of its own day alone, and those come from its own till.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from uuid import uuid4

import msgspec

from app.client import Answer, Client, NoAnswer, Refused
from app.grocery import GroceryYear, HouseholdDay
from headrace.events.token import Token

LANES = 4
"""Batches of the feed that are under way at once; a household always uses the same lane."""
BATCH_BASKETS = 2_000
TILLS = 48
"""Household-days that are rung up at once: requests that come together share a transaction."""
WAIT_S = 1.0
"""How long loyalty is asked to wait for what was sent, before its progress is looked at."""
RETRY_S = 0.2
STALL_MAX_S = 30.0
"""A service whose position does not move for so long does not get there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Host and port of the three services."""

    checkout: str
    promotions: str
    loyalty: str


@dataclass(slots=True)
class Progress:
    """What the services have taken so far."""

    baskets: int = 0
    redemptions: int = 0


class Replay:
    """Plays one year; many threads, because most of the time is spent waiting for answers."""

    def __init__(self, year: GroceryYear, addresses: Addresses) -> None:
        self._year = year
        self._addresses = addresses
        self._days: SimpleQueue[HouseholdDay] = SimpleQueue()
        self._is_at_till = bytearray(len(year.baskets))
        for day in year.days_with_redemption():
            self._days.put(day)
            for index in day.baskets:
                self._is_at_till[index] = True
        self._is_stopped = threading.Event()
        self._lock = threading.Lock()
        self._sent: Token | None = None
        self.progress = Progress()

    def run(self, watch: Callable[[Progress], None]) -> None:
        """Play the year; returns when loyalty's tables hold all of it.

        `watch` is called every fifth of a second, and ends the replay by raising.
        Raises: NoAnswer when a service fails or does not come on.
        """
        with ThreadPoolExecutor(LANES + TILLS, thread_name_prefix="replay") as threads:
            try:
                self._announce_campaigns()
                tills = [threads.submit(self._man_till) for _ in range(TILLS)]
                lanes = [threads.submit(self._feed_lane, lane) for lane in range(LANES)]
                self._await([*tills, *lanes], watch)
            finally:
                self._is_stopped.set()
        self._await_loyalty(watch)

    def _await(self, threads: Sequence[Future[None]], watch: Callable[[Progress], None]) -> None:
        pending = set(threads)
        while pending:
            done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
            for thread in done:
                thread.result()
            watch(self.progress)

    def _announce_campaigns(self) -> None:
        with closing(Client(self._addresses.promotions)) as promotions:
            self._note(self._take(promotions, "/campaigns", msgspec.json.encode(self._year.campaigns)))

    def _man_till(self) -> None:
        """Ring up one household-day after the other, until none is left."""
        with (
            closing(Client(self._addresses.checkout)) as checkout,
            closing(Client(self._addresses.promotions)) as promotions,
        ):
            while not self._is_stopped.is_set():
                try:
                    baskets, redemptions = self._days.get_nowait()
                except Empty:
                    return
                body = msgspec.json.encode([self._year.baskets[at] for at in baskets])
                paid = self._note(self._take(checkout, "/baskets", body), baskets=len(baskets))
                # The token makes the stamp of what promotions sends: whoever judges these redemptions
                # has seen the baskets first.
                body = msgspec.json.encode(redemptions)
                self._note(self._take(promotions, "/redemptions", body, paid), redemptions=len(redemptions))

    def _feed_lane(self, lane: int) -> None:
        """Post what no till rings up of one lane's households, batch after batch."""
        baskets, is_at_till = self._year.baskets, self._is_at_till
        mine = [
            at
            for at, household in enumerate(baskets.household_ids)
            if household % LANES == lane and not is_at_till[at]
        ]
        with closing(Client(self._addresses.checkout)) as checkout:
            for first in range(0, len(mine), BATCH_BASKETS):
                if self._is_stopped.is_set():
                    return
                batch = mine[first : first + BATCH_BASKETS]
                body = msgspec.json.encode([baskets[at] for at in batch])
                self._note(self._take(checkout, "/baskets", body), baskets=len(batch))

    def _take(self, client: Client, path: str, body: bytes, seen: Token | None = None) -> Answer:
        """Post until it is answered: under its key it is taken once, whoever dies meanwhile.

        Raises: NoAnswer when the service stays away for too long; Refused.
        """
        key, deadline = str(uuid4()), time.monotonic() + STALL_MAX_S
        while True:
            try:
                return client.post(path, body, seen=seen, key=key)
            except Refused:
                raise
            except NoAnswer:
                if time.monotonic() > deadline or self._is_stopped.wait(RETRY_S):
                    raise

    def _note(self, answer: Answer, *, baskets: int = 0, redemptions: int = 0) -> Token:
        token = answer.position
        if token is None:
            raise NoAnswer("a service took events and did not name their position")
        with self._lock:
            self._sent = token if self._sent is None else self._sent.merge(token)
            self.progress.baskets += baskets
            self.progress.redemptions += redemptions
        return token

    def _await_loyalty(self, watch: Callable[[Progress], None]) -> None:
        """Wait until loyalty's tables stand for everything that was sent."""
        moved_at, before = time.monotonic(), None
        with closing(Client(self._addresses.loyalty)) as loyalty:
            while (answer := loyalty.get("/balances?limit=1", seen=self._sent, wait_s=WAIT_S)).status != 200:
                if answer.status != 503:
                    raise Refused(f"loyalty answers {answer.status} for what was sent: {answer.body!r}")
                if answer.position != before:
                    moved_at, before = time.monotonic(), answer.position
                elif time.monotonic() - moved_at > STALL_MAX_S:
                    raise NoAnswer(f"loyalty has not come on for {STALL_MAX_S:.0f} s; it stands at {before}")
                watch(self.progress)
                time.sleep(RETRY_S)  # while it takes over it says so at once
