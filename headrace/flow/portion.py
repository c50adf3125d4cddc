"""A portion: the chunks that one unit is to be made of, and how it is cut when an event is refused."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace.log.port import Chunk


@dataclass(frozen=True, slots=True)
class Portion:
    """Chunks to be run as one unit, in this order."""

    chunks: Sequence[Chunk]
    is_guarded: bool = False
    """Each event's writes can be taken back by themselves; slower."""

    @property
    def events(self) -> int:
        """How many events there are."""
        return sum(map(len, self.chunks))

    @property
    def is_alone(self) -> bool:
        """Whether it is one event by itself."""
        return self.events == 1

    def guarded(self) -> "Portion":
        """The same events, each with its writes apart."""
        return Portion(self.chunks, is_guarded=True)

    def first(self, events: int) -> tuple["Portion", ...]:
        """This many events, and the others behind them; one portion when there are no others."""
        if events >= self.events:
            return (self,)
        head: list[Chunk] = []
        for index, chunk in enumerate(self.chunks):
            if len(chunk) > events:
                tail = [chunk.tail(events), *self.chunks[index + 1 :]]
                head += [chunk.head(events)] if events else []
                return Portion(head, self.is_guarded), Portion(tail, self.is_guarded)
            head.append(chunk)
            events -= len(chunk)
        raise AssertionError("fewer events than counted")

    def around(self, chunk: Chunk, index: int) -> Iterator["Portion"]:
        """What lies before one of its events, that event alone, and what lies behind it."""
        at = next(i for i, own in enumerate(self.chunks) if own is chunk)
        before = [*self.chunks[:at], *([chunk.head(index)] if index else [])]
        behind = [chunk.tail(index + 1)] if index + 1 < len(chunk) else []
        alone = chunk.tail(index).head(1) if behind else chunk.tail(index)
        for chunks in (before, [alone], [*behind, *self.chunks[at + 1 :]]):
            if chunks:
                yield Portion(chunks, is_guarded=True)
