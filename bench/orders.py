"""The events of the comparison: orders of about 100 bytes over 10,000 articles, the same in every run."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

_ARTICLES = 10_000
_SEED = 20_261_123
_STARTED_AT_MS = 1_790_000_000_000
_STRIDE = 387_420_489
"""A power of three: its multiples pass through every remainder that powers of two and five have."""


def scattered(number: int, articles: int) -> int:
    """Each of so many articles once, in an order in which no two neighbours follow each other."""
    return number * _STRIDE % articles


@dataclass(frozen=True, slots=True)
class Orders:
    """The first `events` orders of the sequence."""

    events: int
    articles: int = _ARTICLES
    is_each_new: bool = False
    """Whether every order is of an article that none before it was of, as long as there are any."""
    note_bytes: int = 0
    """Each order carries a note of this length."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Key, value and timestamp of each order."""
        encode = msgspec.json.Encoder().encode
        for number, (article, quantity) in enumerate(self._rolls()):
            sku = f"sku-{article:06d}"
            order: dict[str, str | int | float] = {
                "order_id": f"ord-{number:012d}",
                "sku": sku,
                "qty": quantity,
                "price": 1 + article % 199 + 0.95,
                "ts": _STARTED_AT_MS / 1000 + number / 1000,
            }
            if self.note_bytes:
                order["note"] = f"{number:x} ".ljust(self.note_bytes, "x")
            yield sku.encode(), encode(order), _STARTED_AT_MS + number

    def first(self, events: int) -> "Orders":
        """No more than so many of them."""
        return replace(self, events=min(events, self.events))

    def expected_sum(self) -> int:
        """What all quantities come to."""
        return sum(quantity for _, quantity in self._rolls())

    def _rolls(self) -> Iterator[tuple[int, int]]:
        """Article and quantity of each."""
        dice = random.Random(_SEED)
        for number in range(self.events):
            article = int(dice.random() * self.articles)
            if self.is_each_new:
                article = scattered(number, self.articles)
            yield article, 1 + int(dice.random() * 9)
