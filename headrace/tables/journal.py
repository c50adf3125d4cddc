"""What the event in hand has changed so far, so that it can be taken back by itself."""

from collections.abc import Callable
from typing import Any, Final

from headrace.events.position import TopicPartition


class _Missing:
    """Stands for: the open unit had no write of this key."""


MISSING: Final = _Missing()


class Journal:
    """Notes of one event: what each write replaced, and where each output lies.

    Nothing is done between two events: the first note of an event throws away those of the one
    before. `in_hand` tells the index of the event in hand.
    """

    def __init__(self, in_hand: Callable[[], int]) -> None:
        self._in_hand = in_hand
        self._at = -1
        self._writes: list[tuple[dict[Any, Any], Any, Any]] = []
        self._sent: list[TopicPartition] = []

    def keep(self) -> None:
        """What was changed so far stays."""
        self._at = -1
        self._writes.clear()
        self._sent.clear()

    def wrote(self, rows: dict[Any, Any], key: Any) -> None:
        """A key of the open unit's rows is about to be written."""
        self._turn()
        self._writes.append((rows, key, rows.get(key, MISSING)))

    def sent(self, place: TopicPartition) -> None:
        """An output was put at the end of this place's records."""
        self._turn()
        self._sent.append(place)

    def roll_back(self) -> list[TopicPartition]:
        """Take back the writes of the event in hand; the result is where outputs of it lie, newest first."""
        self._turn()
        for rows, key, before in reversed(self._writes):
            if before is MISSING:
                del rows[key]
            else:
                rows[key] = before
        outputs = self._sent[::-1]
        self.keep()
        return outputs

    def _turn(self) -> None:
        at = self._in_hand()
        if at != self._at:
            self.keep()
            self._at = at
