"""What agents read of global tables: kept with the unit that did, and told again when it is folded again.

A global table moves on beside the tasks that read it, so their rows are a fold of their events and of
what they found there.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from headrace.events.position import TopicPartition
from headrace.flow.group import Group
from headrace.flow.hand import Hand
from headrace.runtime import Runtime
from headrace.tables.globalview import GlobalView
from headrace.tables.rows import active_rows


class Handled(NamedTuple):
    """An event in the hand of an agent."""

    agent: str
    topic: str
    offset: int
    is_replayed: bool


class Attempt:
    """What was found while an event was handled once."""

    def __init__(self, stream: object) -> None:
        self.stream = stream
        """Tells attempts apart: an agent that is started again has another one."""
        self.found: list[Any] = []


class Lookups:
    """What the agents of one worker have found in global tables, in units that are not committed yet."""

    def __init__(self) -> None:
        self._attempts: dict[TopicPartition, dict[Handled, Attempt]] = {}

    def attempt(self) -> Attempt | None:
        """The attempt that is being made now; None outside of an event."""
        hand = hand_of_now()
        in_hand = handled(hand) if hand is not None else None
        if hand is None or in_hand is None:
            return None
        task = self._attempts.setdefault(TopicPartition(hand.group.changelog, hand.partition), {})
        stream = hand.run.stream if hand.run is not None else None
        known = task.get(in_hand)
        if known is None or known.stream is not stream:
            known = task[in_hand] = Attempt(stream)
        return known

    def committed(
        self, changelog: TopicPartition, inputs: Mapping[str, int]
    ) -> Iterator[tuple[Handled, list[Any]]]:
        """Take out what was found for the events of a task that are committed now."""
        task = self._attempts.get(changelog, {})
        for event in [each for each in task if each.is_replayed or each.offset < inputs.get(each.topic, 0)]:
            yield event, task.pop(event).found


class NotedView(GlobalView):
    """A global table that notes what each event finds in it."""

    may_be_kept = False

    def __init__(self, group: Group, lookups: Lookups) -> None:
        super().__init__(group.name, group.inputs, group.partitions, group.partitioner)
        self._lookups = lookups

    def get(self, wire_key: bytes, store_key: bytes) -> bytes | None:
        """The committed row bytes of a key, noted for the event in hand."""
        return self._noted(super().get(wire_key, store_key))  # type: ignore[no-any-return]

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Committed rows, noted for the event in hand."""
        return iter(self._noted(list(super().scan(start, end))))

    def _noted(self, found: Any) -> Any:
        attempt = self._lookups.attempt()
        if attempt is not None:
            attempt.found.append(found)
        return found


class ToldView(GlobalView):
    """A global table in which each event finds what it found before."""

    may_be_kept = False

    def __init__(self, group: Group, told: Mapping[TopicPartition, Mapping[Handled, list[Any]]]) -> None:
        super().__init__(group.name, group.inputs, group.partitions, group.partitioner)
        self._told = told
        self._again = Lookups()

    def get(self, wire_key: bytes, store_key: bytes) -> bytes | None:
        """What the event in hand found at this point."""
        return self._found(lambda: super(ToldView, self).get(wire_key, store_key))  # type: ignore[no-any-return]

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """What the event in hand found at this point."""
        return iter(self._found(lambda: list(super(ToldView, self).scan(start, end))))

    def _found(self, now: Callable[[], Any]) -> Any:
        hand, attempt = hand_of_now(), self._again.attempt()
        in_hand = handled(hand) if hand is not None else None
        if hand is None or in_hand is None or attempt is None:
            return now()
        of_task = self._told.get(TopicPartition(hand.group.changelog, hand.partition), {})
        known, at = of_task.get(in_hand, ()), len(attempt.found)
        attempt.found.append(known[at] if at < len(known) else now())
        return attempt.found[at]


class WatchedRuntime(Runtime):
    """A run whose global tables are the harness's own."""

    view_of: Callable[[Group], GlobalView]

    def _view_of(self, group: Group) -> GlobalView:
        return self.view_of(group)


def hand_of_now() -> Hand | None:
    """The hand that holds an event now; None outside of agents."""
    hand = active_rows.get(None)
    return hand if isinstance(hand, Hand) else None


def handled(hand: Hand) -> Handled | None:
    """The event in hand; None between events."""
    place = hand.run.stream.place_in_hand if hand.run is not None else None
    if hand.run is None or place is None:
        return None
    chunk, index = place
    return Handled(hand.run.agent.name, chunk.topic, chunk.offsets[index], hand.is_replaying)
