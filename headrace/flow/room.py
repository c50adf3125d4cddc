"""What the tasks of a worker take of its memory together: events in hand, and rows that wait for a store."""

_EVENTS_IN_HAND_MAX = 160_000
_UNIT_RECORDS_MIN = 1_000
_BACKLOG_BYTES_MAX = 64 * 1024 * 1024


class Room:
    """Shared by all tasks of a worker: many that catch up at once take no more of it than a few do."""

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._backlog_bytes = 0

    # --- events in hand

    def take_up(self, task: str) -> None:
        """A task has events in hand."""
        self._busy.add(task)

    def lay_down(self, task: str) -> None:
        """It has none, and waits for some; a second call does nothing."""
        self._busy.discard(task)

    def unit_records_max(self, wanted: int) -> int:
        """How many events the next unit of a task may take: fewer where many tasks have some in hand."""
        share = _EVENTS_IN_HAND_MAX // (len(self._busy) + 1)
        return min(wanted, max(_UNIT_RECORDS_MIN, share))

    # --- rows that wait

    @property
    def is_full(self) -> bool:
        """Whether so many committed rows wait that whoever adds to them has to write."""
        return self._backlog_bytes >= _BACKLOG_BYTES_MAX

    def grow(self, size_bytes: int) -> None:
        """So much more waits; less, if it is negative."""
        self._backlog_bytes += size_bytes
