"""The hours for which answers are kept: a clock that is set while they pass cuts none of them short."""

from headrace.clock import Clock


class Hours:
    """Wall time for one opening of a partition, as the wall clock has it and as the steady one counts on.

    A wall clock that is set, forwards or back, makes the two differ. What is recorded has the later
    of them and what expires is judged by the earlier, so that an answer is kept too long, never too
    short. How wrong the wall clock was at the opening, nobody here can know.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._opened_s = clock.time() - clock.monotonic()

    def recording_ms(self) -> int:
        """When an answer that is recorded now was recorded."""
        return int(max(self._both_s()) * 1000)

    def expiring_ms(self) -> int:
        """The time by which answers have expired, or not."""
        return int(min(self._both_s()) * 1000)

    def _both_s(self) -> tuple[float, float]:
        return self._clock.time(), self._opened_s + self._clock.monotonic()
