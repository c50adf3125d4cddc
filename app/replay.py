"""The year at the tills, played against the services over HTTP."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import msgspec

from app.client import Answer, Client, NoAnswer
from app.coverage import Coverage, Due
from app.grocery import GroceryYear
from headrace.events.token import Token

LANES = 4
"""Requests with baskets that are under way at once; a household always uses the same lane."""
BATCH_BASKETS = 2_000
POLL_S = 0.05
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
    """Plays one year; several threads, because most of the time is spent waiting for answers.

    Order: the baskets of a household go in time order through one lane, each batch after the answer
    to the one before. Redemptions follow beside them and hold no basket back.
    """

    def __init__(self, year: GroceryYear, addresses: Addresses) -> None:
        self._year = year
        self._addresses = addresses
        self._redemptions_by_basket = {
            day.baskets[-1]: day.redemptions for day in year.days_with_redemption()
        }
        self._due: SimpleQueue[Due | None] = SimpleQueue()
        self._is_stopped = threading.Event()
        self._lock = threading.Lock()
        self._sent: Token | None = None
        self.progress = Progress()

    def run(self, watch: Callable[[Progress], None]) -> None:
        """Play the year; returns when loyalty's tables hold all of it.

        `watch` is called every fifth of a second, and ends the replay by raising.
        Raises: NoAnswer when a service fails or does not come on.
        """
        with ThreadPoolExecutor(LANES + 1, thread_name_prefix="replay") as threads:
            try:
                self._announce_campaigns()
                redeeming = threads.submit(self._redeem)
                lanes = [threads.submit(self._play_lane, lane) for lane in range(LANES)]
                self._await([*lanes, redeeming], lanes, watch)
            finally:
                self._is_stopped.set()
        self._await_loyalty(watch)

    def _await(
        self,
        threads: Sequence[Future[None]],
        lanes: Sequence[Future[None]],
        watch: Callable[[Progress], None],
    ) -> None:
        pending = set(threads)
        is_last_said = False
        while pending:
            done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
            for thread in done:
                thread.result()
            watch(self.progress)
            if not is_last_said and all(lane.done() for lane in lanes):
                self._due.put(None)
                is_last_said = True

    def _announce_campaigns(self) -> None:
        with closing(Client(self._addresses.promotions)) as promotions:
            self._note(promotions.post("/campaigns", msgspec.json.encode(self._year.campaigns)))

    def _play_lane(self, lane: int) -> None:
        """Post the baskets of one lane's households, batch after batch."""
        baskets, due = self._year.baskets, self._redemptions_by_basket
        mine = [at for at, household in enumerate(baskets.household_ids) if household % LANES == lane]
        with closing(Client(self._addresses.checkout)) as checkout:
            for first in range(0, len(mine), BATCH_BASKETS):
                if self._is_stopped.is_set():
                    return
                batch = mine[first : first + BATCH_BASKETS]
                body = msgspec.json.encode([baskets[at] for at in batch])
                token = self._note(checkout.post("/baskets", body), baskets=len(batch))
                for at in batch:
                    if at in due:
                        self._due.put(Due(token, due[at]))

    def _redeem(self) -> None:
        """Post the redemptions of each household and day after loyalty has that day's baskets."""
        # Stamps will carry this order with the events, and loyalty will do the waiting; until then the
        # tills wait here, or redemptions would be judged before the baskets that bear them out.
        waiting: list[Due] = []
        is_last = False
        with (
            closing(Client(self._addresses.loyalty)) as loyalty,
            closing(Client(self._addresses.promotions)) as promotions,
        ):
            coverage = Coverage(loyalty)
            while waiting or not is_last:
                if self._is_stopped.wait(POLL_S):
                    return
                is_last = self._take_due(waiting) or is_last
                covered, waiting = coverage.split(waiting)
                redemptions = [redeemed for due in covered for redeemed in due.redemptions]
                if redemptions:
                    answer = promotions.post("/redemptions", msgspec.json.encode(redemptions))
                    self._note(answer, redemptions=len(redemptions))

    def _take_due(self, waiting: list[Due]) -> bool:
        """Move what has become due; whether it was the last."""
        while True:
            try:
                due = self._due.get_nowait()
            except Empty:
                return False
            if due is None:
                return True
            waiting.append(due)

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
        assert self._sent is not None
        moved_at, before = time.monotonic(), None
        with closing(Client(self._addresses.loyalty)) as loyalty:
            while True:
                reached = loyalty.get("/balances?limit=1").position
                if reached is not None and reached.covers(self._sent):
                    return
                if reached != before:
                    moved_at, before = time.monotonic(), reached
                elif time.monotonic() - moved_at > STALL_MAX_S:
                    raise NoAnswer(f"loyalty has not come on for {STALL_MAX_S:.0f} s; it stands at {reached}")
                watch(self.progress)
                time.sleep(POLL_S)
