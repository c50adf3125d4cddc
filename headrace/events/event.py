"""What a fact is: a frozen struct with a past-tense name."""

import re
from typing import Generic, TypeVar

import msgspec

E = TypeVar("E", covariant=True)

_EVENT_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


class Event(msgspec.Struct, frozen=True, tag=True, tag_field="type"):
    """A business fact: it has happened, so it can always be applied.

    Subclasses are named in the past tense and written `class BasketPurchased(Event, frozen=True)`.
    Shape: JSON with the class name in `type`, so that a topic may carry a union of events.
    """


class Correction(Event, Generic[E], frozen=True, kw_only=True):
    """A fact that says: an earlier fact turned out to be wrong, this holds instead.

    Ordered after its target because it is sent with the target's key. Its own fields are the facts
    as they are now; a subclass that has a `__post_init__` calls that of its parent.
    """

    corrects: str
    """Event id of the fact that this one corrects, in the usual text form of a UUID."""
    reason: str
    """Why, for people."""

    def __post_init__(self) -> None:
        """Bring the id into its usual form. Raises: ValueError for what no event has as its id."""
        target = self.corrects.lower()
        if not _EVENT_ID.fullmatch(target):
            raise ValueError(f"`corrects` names an event by its id, a UUID, not {self.corrects[:80]!r}")
        if not self.reason.strip():
            raise ValueError("a correction says for what `reason` it is made")
        msgspec.structs.force_setattr(self, "corrects", target)
