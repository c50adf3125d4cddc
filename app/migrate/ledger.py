"""What the log holds, by place: which baskets and redemptions are contained at a position."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Self

import msgspec

from app.database import baskets, promotions
from app.truth import Part, Redeemed
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.log.port import Chunk, Log, Reader, catalog

TOPICS = (baskets, promotions)
_RECORDS_MAX = 5_000
_BYTES_MAX = 16 * 1024 * 1024


class _Basket(msgspec.Struct):
    household_id: int
    basket_id: int


class _Redemption(msgspec.Struct):
    household_id: int
    coupon_upc: int
    campaign_id: int
    day: date


_basket = msgspec.json.Decoder(_Basket)
_redemption = msgspec.json.Decoder(_Redemption)
_Fact = tuple[int, int | Redeemed]
"""Household, and basket id or redemption."""


@dataclass(slots=True)
class _Place:
    """One partition, as far as it was read."""

    offsets: list[int] = field(default_factory=list)
    facts: list[_Fact] = field(default_factory=list)
    offset_next: int = 0


class Ledger:
    """Follows both topics from their beginning; nothing of the services is used."""

    def __init__(
        self, log: Log, known: Catalog, reader: Reader, places: Mapping[TopicPartition, _Place]
    ) -> None:
        self.catalog = known
        self._log = log
        self._reader = reader
        self._places = places

    @classmethod
    async def open(cls, log: Log) -> Self:
        """The ledger of a log whose topics are there."""
        infos = await log.describe([topic.name for topic in TOPICS])
        places = {
            TopicPartition(i.name, number): _Place() for i in infos.values() for number in range(i.partitions)
        }
        return cls(log, catalog(log, infos), await log.reader(dict.fromkeys(places, 0)), places)

    async def close(self) -> None:
        """Let go of the log."""
        await self._reader.close()

    @property
    def facts(self) -> int:
        """Baskets and redemptions that were read so far."""
        return sum(len(place.facts) for place in self._places.values())

    async def ends(self) -> Position:
        """How far the log reaches now."""
        held = await self._log.offsets(list(self._places))
        return Position({place: held[place].stable for place in self._places})

    async def read_to(self, position: Position) -> None:
        """Read on until everything before a position is known."""
        while any(self._places[place].offset_next < offset for place, offset in position.items()):
            for chunk in await self._reader.fetch(records_max=_RECORDS_MAX, bytes_max=_BYTES_MAX):
                self._note(chunk)

    def _note(self, chunk: Chunk) -> None:
        place = self._places[TopicPartition(chunk.topic, chunk.partition)]
        decoded = _baskets if chunk.topic == baskets.name else _redemptions
        for offset, fact in decoded(chunk):
            place.offsets.append(offset)
            place.facts.append(fact)
        place.offset_next = chunk.offset_next

    def part(self, position: Position) -> Part:
        """What lies before a position."""
        ids: list[int] = []
        redeemed: list[Redeemed] = []
        for place, offset in position.items():
            for _, fact in self._before(place, 0, offset):
                (redeemed if isinstance(fact, Redeemed) else ids).append(fact)  # type: ignore[arg-type]
        return Part(ids, redeemed)

    def whole(self) -> Part:
        """All that was read."""
        return self.part(Position({place: known.offset_next for place, known in self._places.items()}))

    def households_between(self, one: Position, other: Position) -> set[int]:
        """Whose facts lie between two positions, whichever is ahead where."""
        found: set[int] = set()
        for place in one.keys() | other.keys():
            ends = sorted((one.get(place, 0), other.get(place, 0)))
            found.update(household for household, _ in self._before(place, *ends))
        return found

    def _before(self, place: TopicPartition, start: int, end: int) -> list[_Fact]:
        known = self._places[place]
        return known.facts[bisect_left(known.offsets, start) : bisect_left(known.offsets, end)]


def _baskets(chunk: Chunk) -> Iterator[tuple[int, _Fact]]:
    for offset, value in zip(chunk.offsets, chunk.values, strict=True):
        basket = _basket.decode(value or b"")
        yield offset, (basket.household_id, basket.basket_id)


def _redemptions(chunk: Chunk) -> Iterator[tuple[int, _Fact]]:
    for offset, value in zip(chunk.offsets, chunk.values, strict=True):
        if value is not None and b'"CouponRedeemed"' in value:
            each = _redemption.decode(value)
            yield (
                offset,
                (each.household_id, Redeemed(each.household_id, each.coupon_upc, each.campaign_id, each.day)),
            )
