"""What a task has seen, and the stamp that tells it to whoever gets an event of the task."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from headrace.events.position import Catalog, Position
from headrace.events.seen import (
    COMPONENTS_MAX,
    STAMP_HEAD,
    STAMP_HEAD_CUT,
    Print,
    Seen,
    partition_print,
    topic_print,
)
from headrace.tables.changelog import InputPosition


class Followed(Protocol):
    """A global table as the tasks that may read it see it."""

    @property
    def inputs(self) -> frozenset[str]:
        """Topics that it is folded from."""

    @property
    def position(self) -> Position:
        """How far it is in all partitions of them."""

    @property
    def seen(self) -> Seen:
        """What its rows contain beyond that."""

    @property
    def version(self) -> int:
        """Rises whenever it moves on."""

    @property
    def changed(self) -> asyncio.Event:
        """Set when it moves on next; a new one takes its place then."""


def input_print(topic: str, at: InputPosition, partition: int) -> Print:
    """The print of a task's partition of one of its inputs."""
    return partition_print(topic_print(topic, at.topic_id), partition)


def offset_bytes(offset: int) -> bytes:
    """An offset as stamps hold it; the bytes compare as the numbers do."""
    return offset.to_bytes(8, "big")


class TaskSeen:
    """merge(input positions, positions of global tables, stamps of the events that were handed out).

    Exact at the end of a unit, where it is what the rows contain. In between it may run ahead of
    the event in hand by what the agents before have handled: their rows can be read already.
    """

    def __init__(
        self,
        inputs: Mapping[str, Print],
        seen: Seen,
        *,
        parked: Mapping[Print, int],
        catalog: Catalog,
        followed: Sequence[Followed] = (),
    ) -> None:
        self._inputs = dict(inputs)
        own = frozenset(inputs.values())
        merged = seen.merge(Seen(parked))
        self._others = {p: offset_bytes(o) for p, o in merged.items() if p not in own}
        """What the units so far have learnt from stamps; not of the task's own inputs."""
        self._floor = {p: offset_bytes(o) for p, o in merged.items() if p in own}
        """What was learnt of an input before it became one."""
        self._lone_head = STAMP_HEAD + next(iter(own)) if len(own) == 1 else b""
        """How the stamps of a task with one input begin; empty with several."""
        self._ahead = dict(self._others)
        """The same up to the event in hand."""
        self._is_cut = merged.is_cut
        self._learnt: dict[str, deque[tuple[int, Print, bytes]]] = {topic: deque() for topic in inputs}
        """By input: offset of an event, and what its stamp names; of events not in a unit yet."""
        self._told = dict.fromkeys(inputs, 0)
        """How many of these are in `_ahead`."""
        self._front: dict[str, int] = dict.fromkeys(inputs, 0)
        self._stamp = b""
        self._record: tuple[bytes, Seen] | None = None
        self._catalog = catalog
        self._followed = followed
        self._versions = [-1] * len(followed)

    # --- what stamps tell

    def learn(self, topic: str, offset: int, print_: Print, seen: bytes) -> None:
        """The event at this offset, which will be handed out, names a partition that is no input."""
        self._learnt[topic].append((offset, print_, seen))

    def learn_cut(self) -> None:
        """The stamp of an event does not tell all."""
        self._is_cut = True

    # --- a unit

    def begin(self, inputs: Mapping[str, InputPosition]) -> None:
        """A unit begins here; what an earlier one learnt and did not commit is forgotten."""
        for topic in self._inputs:
            self._front[topic] = inputs[topic].offset_next
            self._told[topic] = 0
        self._ahead = dict(self._others)
        self._stamp = b""

    def passed(self, topic: str, offset_next: int) -> None:
        """An agent finished the events of this input up to here."""
        if offset_next > self._front[topic]:
            self._front[topic] = offset_next
            self._stamp = b""
        if self._learnt[topic]:
            self._tell(topic, offset_next)

    def _tell(self, topic: str, offset_next: int) -> None:
        learnt, at = self._learnt[topic], self._told[topic]
        while at < len(learnt) and learnt[at][0] < offset_next:
            _, print_, seen = learnt[at]
            if self._note(self._ahead, print_, seen):
                self._stamp = b""
            at += 1
        self._told[topic] = at

    def _note(self, known: dict[Print, bytes], print_: Print, seen: bytes) -> bool:
        """Take a component in; whether it tells anything new. More than are ever sent are not kept."""
        before = known.get(print_)
        if before is None and len(known) >= COMPONENTS_MAX:
            has_news, self._is_cut = not self._is_cut, True
            return has_news
        if before is not None and seen <= before:
            return False
        known[print_] = seen
        return True

    def sealed(self, inputs: Mapping[str, InputPosition]) -> tuple[bytes, Seen]:
        """What a unit that ends at these positions contains beyond them, for its record and for readers."""
        self.look_at_followed()
        changed = False
        for topic in self._inputs:
            learnt, end = self._learnt[topic], inputs[topic].offset_next
            while learnt and learnt[0][0] < end:
                _, print_, seen = learnt.popleft()
                changed = self._note(self._others, print_, seen) or changed
        if self._record is None or changed or self._record[1].is_cut != self._is_cut:
            offsets = {p: int.from_bytes(o, "big") for p, o in (*self._floor.items(), *self._others.items())}
            # Readers and the record get the same: what is cut here is unproven there.
            seen_ = Seen(offsets, is_cut=self._is_cut).within(COMPONENTS_MAX)
            self._record = (seen_.encode(), seen_)
        return self._record

    def stamp(self, topic: str, offset: int) -> bytes:
        """What is written into an event that is sent while the one at this offset is in hand."""
        if offset >= self._front[topic]:
            self._front[topic] = offset + 1
            self._stamp = b""
            if self._learnt[topic]:
                self._tell(topic, offset + 1)
        if self._followed:
            self.look_at_followed()
        if not self._stamp:
            if self._lone_head and not (self._ahead or self._floor or self._is_cut):
                self._stamp = self._lone_head + self._front[topic].to_bytes(8, "big")
            else:
                self._stamp = self._encode()
        return self._stamp

    def _encode(self) -> bytes:
        own = [print_ + self._own(topic, print_) for topic, print_ in self._inputs.items()]
        if not self._ahead:
            return (STAMP_HEAD_CUT if self._is_cut else STAMP_HEAD) + b"".join(own)
        parts = [*own, *map(b"".join, self._ahead.items())]
        is_cut = self._is_cut or len(parts) > COMPONENTS_MAX
        return (STAMP_HEAD_CUT if is_cut else STAMP_HEAD) + b"".join(parts[:COMPONENTS_MAX])

    def _own(self, topic: str, print_: Print) -> bytes:
        front = self._front[topic].to_bytes(8, "big")
        return max(front, self._floor[print_]) if print_ in self._floor else front

    def look_at_followed(self) -> None:
        """Take in how far the global tables are; to be called in the loop turn in which one is read."""
        for index, followed in enumerate(self._followed):
            if followed.version != self._versions[index]:
                self._versions[index] = followed.version
                self._is_cut = self._is_cut or followed.seen.is_cut
                self._take_in(self._catalog.seen(followed.position).merge(followed.seen).items())
                self._stamp, self._record = b"", None

    def _take_in(self, components: Iterable[tuple[Print, int]]) -> None:
        own = self._inputs.values()
        for print_, offset in components:
            if not offset:
                continue
            seen = offset_bytes(offset)
            for known in (self._floor,) if print_ in own else (self._others, self._ahead):
                self._note(known, print_, seen)
