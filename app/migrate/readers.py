"""Whoever asks loyalty, all the time: at the customer desk, at the tills, in the app of the chain.

A household is always asked for by the same reader, which keeps the token of what it was answered: whatever
side answers next, it answers with no less.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from typing import Self

from app.migrate.checker import Checker, Table, WrongAnswer
from app.migrate.frontdoor import Doorway, FrontDoor, Refusal, Side
from headrace.events.token import Token

READERS = 4
WAIT_S = 0.4
"""How long a service may wait for what was seen before it refuses."""
RETRY_S = 0.02
GIVE_UP_S = 20.0
_WRONG_KEPT = 20


@dataclass(slots=True)
class Tally:
    """What readers have met."""

    reads: int = 0
    mirrored: int = 0
    """Of the other side, for comparison."""
    wrong: int = 0
    refused: int = 0
    """Reads that were refused at least once."""
    longest_refusal_s: float = 0.0
    """From asking to the answer, where it was refused in between."""
    slowest_s: float = 0.0
    examples: list[str] = field(default_factory=list)
    """The first wrong answers."""


class Readers:
    """Read from entry to exit, so many times a second in all."""

    def __init__(
        self,
        door: FrontDoor,
        checker: Checker,
        households: Sequence[int],
        *,
        reads_per_s: float,
        seed: int = 7,
    ) -> None:
        self.tally = Tally()
        self._door = door
        self._checker = checker
        self._every_s = READERS / reads_per_s
        self._lock = threading.Lock()
        self._is_stopped = threading.Event()
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(
                target=self._run, args=(households[at::READERS], Random(seed + at)), name=f"reader {at}"
            )
            for at in range(READERS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopped.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Raises: Refusal for a read that was not answered at all, and whatever else ended a reader."""
        if self._failure is not None:
            raise self._failure

    def _run(self, households: Sequence[int], random: Random) -> None:
        tokens: dict[int, Token] = {}
        tables = tuple(Table)
        try:
            with closing(Doorway(self._door)) as way:
                due = time.monotonic() + random.random() * self._every_s
                while not self._is_stopped.wait(max(0.0, due - time.monotonic())):
                    # Whoever is late does not ask faster afterwards.
                    due = max(due, time.monotonic() - self._every_s) + self._every_s
                    self._read(way, random.choice(households), random.choice(tables), tokens)
        except Exception as error:  # noqa: BLE001  (`check` raises it)
            self._failure = error

    def _read(self, way: Doorway, household: int, table: Table, tokens: dict[int, Token]) -> None:
        path, seen = f"/{table}/{household}", tokens.get(household)
        is_mirrored = self._door.is_mirrored and self._door.side is Side.DATABASE
        began, is_refused = time.monotonic(), False
        while True:
            try:
                answer = way.read(path, seen, WAIT_S)
                break
            except Refusal:
                is_refused = True
                if time.monotonic() - began > GIVE_UP_S or self._is_stopped.wait(RETRY_S):
                    raise
        took_s = time.monotonic() - began
        if answer.seen is not None:
            tokens[household] = answer.seen if seen is None else answer.seen.merge(seen)
        wrong = self._wrong(household, table, answer.value, is_kept=True)
        self._note(wrong, took_s, is_refused=is_refused)
        if is_mirrored:
            self._mirror(way, household, table, tokens.get(household))

    def _mirror(self, way: Doorway, household: int, table: Table, seen: Token | None) -> None:
        try:
            answer = way.read(f"/{table}/{household}", seen, WAIT_S, side=Side.OWN)
        except Refusal:
            return  # nobody's read: this side is not asked in earnest yet
        wrong = self._wrong(household, table, answer.value, is_kept=False)
        with self._lock:
            self.tally.mirrored += 1
            self._note_wrong(wrong)

    def _wrong(self, household: int, table: Table, answer: object, *, is_kept: bool) -> str | None:
        try:
            self._checker.judge(household, table, answer, is_kept=is_kept)
        except WrongAnswer as error:
            return f"{table} of household {household} from the {self._door.side.value}: {error}"
        return None

    def _note(self, wrong: str | None, took_s: float, *, is_refused: bool) -> None:
        with self._lock:
            tally = self.tally
            tally.reads += 1
            tally.slowest_s = max(tally.slowest_s, took_s)
            if is_refused:
                tally.refused += 1
                tally.longest_refusal_s = max(tally.longest_refusal_s, took_s)
            self._note_wrong(wrong)

    def _note_wrong(self, wrong: str | None) -> None:
        if wrong is not None:
            self.tally.wrong += 1
            if len(self.tally.examples) < _WRONG_KEPT:
                self.tally.examples.append(wrong)
