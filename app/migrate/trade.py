"""The tills of the chain: they sell on in the order of the year, whatever is done to the services meanwhile.

A household's facts are posted one after the other, in the order in which they happened: by its lane, which is
one thread. A household-day with a redemption is rung up at a till: its baskets at checkout, then its
redemptions at promotions. All other baskets come in bulk.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple, Self
from uuid import uuid4

import msgspec

from app.client import Client, NoAnswer, Refused
from app.grocery import GroceryYear, HouseholdDay
from app.migrate.sold import Sold

LANES = 4
BATCH_BASKETS = 1_000
TICK_S = 0.5
"""At a pace, baskets come in so often."""
RETRY_S = 0.1
STALL_MAX_S = 30.0


class _Item(NamedTuple):
    """What a lane posts next."""

    at: int
    """It may be sold once the trade has come beyond this basket of the year."""
    day: HouseholdDay | None


class Trade:
    """Sells the first baskets of a year; its lanes run from entry to exit."""

    def __init__(
        self, year: GroceryYear, days: Sequence[HouseholdDay], baskets: int, sold: Sold,
        *, checkout: str, promotions: str,
    ) -> None:  # fmt: skip
        self.baskets = 0
        """Taken by checkout."""
        self.redemptions = 0
        """Taken by promotions."""
        self.days = [day for day in days if day.baskets[-1] < baskets]
        """What tills ring up."""
        self._year = year
        self._sold = sold
        self._checkout = checkout
        self._promotions = promotions
        self._lanes = _lanes(year, self.days, baskets)
        self._next = [0] * LANES
        """Of each lane: the item that it has not posted yet."""
        self._changed = threading.Condition()
        self._goal = 0
        self._begin = 0
        self._began_s = 0.0
        self._rate: float | None = None
        self._is_stopped = False
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f"lane {lane}") for lane in range(LANES)
        ]

    def __enter__(self) -> Self:
        with closing(Client(self._promotions)) as promotions:
            _post(promotions, "/campaigns", self._year.campaigns)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # --- how fast, and how far

    def sell(self, goal: int, *, baskets_per_s: float | None = None) -> int:
        """Go on to before this basket of the year, at a pace or as fast as it is taken; the goal.

        What the trade has come to is not taken back: the goal is never in front of it.
        """
        with self._changed:
            self._begin = self._released()
            self._began_s = time.monotonic()
            self._goal, self._rate = max(goal, self._begin), baskets_per_s
            self._changed.notify_all()
            return self._goal

    def check(self) -> None:
        """Raises: NoAnswer when a service did not take what was posted."""
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Return once all that was to be sold is taken. Raises: NoAnswer."""
        with self._changed:
            while not (self._is_sold() or self._is_stopped or self._failure):
                self._changed.wait()
        self.check()

    def _is_sold(self) -> bool:
        return all(
            at == len(items) or items[at].at >= self._goal
            for at, items in zip(self._next, self._lanes, strict=True)
        )

    def _released(self) -> int:
        """How far the trade may have come by now."""
        if self._rate is None:
            return self._goal
        ticks = int((time.monotonic() - self._began_s) / TICK_S)
        return min(self._goal, self._begin + int(ticks * TICK_S * self._rate))

    # --- the lanes

    def _run(self, lane: int) -> None:
        try:
            with closing(Client(self._checkout)) as checkout, closing(Client(self._promotions)) as promotions:
                while items := self._await_items(lane):
                    self._sell(items, checkout, promotions)
                    with self._changed:
                        self._next[lane] += len(items)
                        self._changed.notify_all()
        except Exception as error:  # noqa: BLE001  (whoever waits for the trade is told)
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _await_items(self, lane: int) -> Sequence[_Item]:
        """What the lane sells next: baskets in bulk, or one household's day at a till; at the end nothing."""
        items, start = self._lanes[lane], self._next[lane]
        with self._changed:
            while not self._is_stopped:
                end, released = start, self._released()
                while end < len(items) and items[end].at < released and end - start < BATCH_BASKETS:
                    if items[end].day is not None:
                        break
                    end += 1
                if end > start:
                    return items[start:end]
                if start < len(items) and items[start].at < released:
                    return items[start : start + 1]
                self._changed.wait(TICK_S if self._rate is not None else None)
        return ()

    def _sell(self, items: Sequence[_Item], checkout: Client, promotions: Client) -> None:
        day = items[0].day
        indexes = [item.at for item in items] if day is None else day.baskets
        baskets = [self._year.baskets[at] for at in indexes]
        for basket in baskets:
            self._sold.baskets[basket.household_id] += 1
        self._post(checkout, "/baskets", baskets)
        self._count(baskets=len(baskets))
        if day is not None:
            self._sold.redemptions[day.redemptions[0].household_id] += len(day.redemptions)
            self._post(promotions, "/redemptions", day.redemptions)
            self._count(redemptions=len(day.redemptions))

    def _post(self, client: Client, path: str, events: Sequence[Any]) -> None:
        _post(client, path, events, is_stopped=lambda: self._is_stopped)

    def _count(self, *, baskets: int = 0, redemptions: int = 0) -> None:
        with self._changed:
            self.baskets += baskets
            self.redemptions += redemptions


def _lanes(year: GroceryYear, days: Sequence[HouseholdDay], baskets: int) -> Sequence[Sequence[_Item]]:
    """What each lane sells, in the order of the year; a till's day ends with its last basket."""
    ending = {day.baskets[-1]: day for day in days}
    is_at_till = {at for day in days for at in day.baskets}
    lanes: list[list[_Item]] = [[] for _ in range(LANES)]
    for at, household in enumerate(year.baskets.household_ids[:baskets]):
        day = ending.get(at)
        if day is not None or at not in is_at_till:
            lanes[household % LANES].append(_Item(at, day))
    return lanes


def _post(
    client: Client, path: str, events: Sequence[Any], is_stopped: Callable[[], bool] = lambda: False
) -> None:
    """Post until it is taken; under its key it is taken once. Raises: NoAnswer, Refused."""
    body, key = msgspec.json.encode(events), str(uuid4())
    deadline = time.monotonic() + STALL_MAX_S
    while True:
        try:
            client.post(path, body, key=key)
            return
        except Refused:
            raise
        except NoAnswer:
            if is_stopped() or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)
