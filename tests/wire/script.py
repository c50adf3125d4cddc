"""What goes wrong on the way to a broker: which request, counted from one, and how."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from tests.wire.frames import Api


class Fault(Enum):
    """What happens to a request or to its reply."""

    CUT_REQUEST = "the connection breaks, and the broker never sees the request"
    CUT_AFTER_REQUEST = "the connection breaks as soon as the broker has the request"
    CUT_REPLY = "the connection breaks when the broker has answered"
    SWALLOW_REQUESTS = "half-open: nothing reaches the broker any more, this request first"
    SWALLOW_REPLIES = "half-open: nothing comes back any more, this reply first"
    DROP_REPLY = "this reply is lost, later ones are not"
    HOLD_REQUEST = "late: the request waits on the way, and is delivered whoever gave up meanwhile"
    HOLD_REPLY = "late: the reply waits on the way"
    REFUSE = "the broker does not carry it out, and answers with a code"
    MISTELL = "the broker carries it out, and answers with a code; of metadata: names no broker"


class Point(NamedTuple):
    """A request: the nth of its kind, over all connections."""

    api: Api
    nth: int

    def __str__(self) -> str:
        return f"{self.api.name} {self.nth}"


class Rule(NamedTuple):
    """One fault, at one request."""

    at: Point
    fault: Fault
    hold_s: float = 0.0
    """Longest wait of what is held."""
    until: Point | None = None
    """What is held goes on as soon as this request is on its way to the broker."""
    code: int = 0

    def __str__(self) -> str:
        more = [f"for {self.hold_s:g} s"] if self.hold_s else []
        more += [f"until {self.until}"] if self.until else []
        more += [f"code {self.code}"] if self.code else []
        return " ".join([f"{self.at}:", self.fault.name, *more])


class Script:
    """The faults of one run, and what has passed so far."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = {rule.at: rule for rule in rules}
        self._seen: Counter[Api] = Counter()
        self._sent: defaultdict[Point, asyncio.Event] = defaultdict(asyncio.Event)
        self._answered: defaultdict[Point, asyncio.Event] = defaultdict(asyncio.Event)
        self._came: defaultdict[Point, asyncio.Event] = defaultdict(asyncio.Event)
        self.struck: list[Rule] = []
        """The faults that happened, in order."""
        self.replies: dict[Point, bytes] = {}
        """What the broker answered to the requests named in rules or waited for."""
        self.requests: dict[Point, bytes] = {}
        """The requests named in rules."""

    def arrive(self, api: Api, frame: bytes = b"") -> tuple[Point, Rule | None]:
        """Count a request; what is to happen to it."""
        self._seen[api] += 1
        at = Point(api, self._seen[api])
        rule = self._rules.get(at)
        if rule is not None:
            self.struck.append(rule)
            self.requests[at] = frame
            self._came[at].set()
        return at, rule

    def add(self, rule: Rule) -> None:
        """One more fault, of a request that has not come yet."""
        self._rules[rule.at] = rule

    def next(self, api: Api) -> Point:
        """The request of this kind that will come next."""
        return Point(api, self._seen[api] + 1)

    def count(self, api: Api) -> int:
        """How many of this kind have come."""
        return self._seen[api]

    def note_sent(self, at: Point) -> None:
        """The request is on its way to the broker."""
        self._sent[at].set()

    def note_answered(self, at: Point, reply: bytes) -> None:
        """The broker has answered it, whether or not anybody hears."""
        if at in self._answered or at in self._rules:
            self.replies[at] = reply
        self._answered[at].set()

    async def came(self, at: Point) -> None:
        """Wait until this request, which a rule names, has come from its client."""
        await self._came[at].wait()

    async def sent(self, at: Point) -> None:
        """Wait until the request is on its way to the broker."""
        await self._sent[at].wait()

    async def answered(self, at: Point) -> bytes:
        """Wait until the broker has answered the request; its answer."""
        await self._answered[at].wait()
        return self.replies[at]

    async def hold(self, rule: Rule) -> None:
        """Wait as the rule says."""
        try:
            async with asyncio.timeout(rule.hold_s):
                await (self.sent(rule.until) if rule.until is not None else asyncio.Event().wait())
        except TimeoutError:
            return
