"""What a fact is: a frozen struct with a past-tense name."""

from typing import Generic, TypeVar

import msgspec

E = TypeVar("E", covariant=True)


class Event(msgspec.Struct, frozen=True, tag=True, tag_field="type"):
    """A business fact: it has happened, so it can always be applied.

    Subclasses are named in the past tense and written `class BasketPurchased(Event, frozen=True)`.
    Shape: JSON with the class name in `type`, so that a topic may carry a union of events.
    """


class Correction(Event, Generic[E], frozen=True, kw_only=True):
    """A fact that says: an earlier fact turned out to be wrong, this holds instead.

    Ordered after its target because it is sent with the target's key.
    """

    corrects: str
    """Event id of the fact that this one corrects."""
    reason: str
    """Why, for people."""
