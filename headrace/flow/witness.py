"""What code outside of agents has seen, and the stamp that tells it to whoever gets an event of it."""

from headrace.events.seen import NOTHING_SEEN, Seen


class Witness:
    """What one request, tick or task has seen; it only grows."""

    __slots__ = ("_stamp", "seen")

    def __init__(self, seen: Seen = NOTHING_SEEN) -> None:
        self.seen = seen
        self._stamp: bytes | None = None

    def saw(self, seen: Seen) -> None:
        """Take in what was read, sent, or brought along."""
        if not self.seen.covers(seen) or (seen.is_cut and not self.seen.is_cut):
            self.seen = self.seen.merge(seen)
            self._stamp = None

    @property
    def stamp(self) -> bytes:
        """What is written into events that are sent now; encoded once per change, empty for nothing."""
        if self._stamp is None:
            self._stamp = self.seen.encode()
        return self._stamp
