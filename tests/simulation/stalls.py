"""Slowness by plan: what does not arrive for a while at one service, and does at another."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from headrace.events.position import TopicPartition
from headrace.log.port import Append, Chunk, Closing, Writer
from headrace.testing.journal import is_unit
from headrace.testing.link import Link, LinkedLog, LinkedReader, LinkedWriter
from headrace.testing.virtual_clock import VirtualClock


@dataclass(frozen=True)
class Spell:
    """From when until when, in virtual seconds."""

    start_s: float
    end_s: float


Spells = Sequence[Spell]


def spells(rng: Random, until_s: float, *, share: float, longest_s: float) -> Spells:
    """Some stretches of time, that make up about this share of it."""
    found, now_s = [], 0.0
    while now_s < until_s:
        length_s = rng.random() * longest_s
        if rng.random() < share:
            found.append(Spell(now_s, now_s + length_s))
        now_s += length_s
    return found


@dataclass(frozen=True)
class Stalls:
    """When a service gets nothing of a partition, and when its commits take long."""

    clock: VirtualClock
    reading: Mapping[TopicPartition, Spells]
    committing: Spells

    def end_s(self, found: Spells) -> float | None:
        """When the spell of this moment ends; None when there is none."""
        now_s = self.clock.monotonic()
        return next((spell.end_s for spell in found if spell.start_s <= now_s < spell.end_s), None)


class StalledLog(LinkedLog):
    """One worker's log, as slow as its service's stalls say."""

    def __init__(self, link: Link, stalls: Stalls) -> None:
        super().__init__(link)
        self._stalls = stalls

    def new_reader(self, positions: Mapping[TopicPartition, int]) -> LinkedReader:
        return _StalledReader(self._link, positions, self._stalls)

    async def writer(self, transactional_id: str) -> Writer:
        await self._link.hop()
        return _StalledWriter(self._link, transactional_id, self._stalls)


class _StalledReader(LinkedReader):
    def __init__(self, link: Link, positions: Mapping[TopicPartition, int], stalls: Stalls) -> None:
        super().__init__(link, positions)
        self._stalls = stalls

    def _cut(self, records_max: int, bytes_max: int) -> Sequence[Chunk]:
        paused, loop = self._paused, asyncio.get_running_loop()
        stalled = set()
        for place in self._positions:
            end_s = self._stalls.end_s(self._stalls.reading.get(place, ()))
            if end_s is not None:
                stalled.add(place)
                loop.call_at(end_s, self._has_changed.set)
        self._paused = paused | stalled
        try:
            return super()._cut(records_max, bytes_max)
        finally:
            self._paused = paused


class _StalledWriter(LinkedWriter):
    def __init__(self, link: Link, transactional_id: str, stalls: Stalls) -> None:
        super().__init__(link, transactional_id)
        self._stalls = stalls

    async def commit(
        self, appends: Sequence[Append], closing: Closing | None = None
    ) -> Mapping[TopicPartition, int]:
        end_s = self._stalls.end_s(self._stalls.committing)
        if end_s is not None and is_unit(appends):
            await self._stalls.clock.sleep(end_s - self._stalls.clock.monotonic())
        return await super().commit(appends, closing)
