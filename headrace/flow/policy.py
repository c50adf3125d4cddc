"""What becomes of an event that an agent cannot apply; given to `@app.agent(..., on_error=)`."""

from dataclasses import dataclass, field

from headrace.errors import DeclarationError

IN_A_ROW_MAX = 100
"""As many dead letters of one agent without a success between them stop its partition: that is a bug."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The event goes to the dead-letter topic in the unit that moves the position beyond it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The partition stops in front of the event, by the event's own error."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The event is tried again, after a wait that doubles each time; later events of the partition wait.

    An event whose bytes cannot be decoded is not tried again: they stay the same.
    """

    times: int
    """Tries after the first one by itself; before that it was run among other events."""
    backoff_s: float = 0.5
    """Wait before the first of them."""
    backoff_max_s: float = 30.0
    then: DeadLetter | Stop = field(default_factory=DeadLetter)

    def __post_init__(self) -> None:
        if self.times < 1 or self.backoff_s < 0 or self.backoff_max_s < 0:
            raise DeclarationError(
                f"{self!r} cannot be followed", hint="Give it at least one time, and waits of 0 s or more."
            )
        _checked_end(self.then)

    def wait_s(self, tried: int) -> float:
        """The wait before the next try, after `tried` failed ones."""
        return min(self.backoff_s * 2.0 ** min(tried - 1, 32), self.backoff_max_s)


Policy = DeadLetter | Stop | Retry


def policy(given: Policy | type[DeadLetter] | type[Stop] | None) -> Policy:
    """The policy that was given, by instance or class; DeadLetter unless given. Raises: DeclarationError."""
    if given is None or given is DeadLetter:
        return DeadLetter()
    if given is Stop:
        return Stop()
    return given if isinstance(given, Retry) else _checked_end(given)


def _checked_end(given: object) -> DeadLetter | Stop:
    if given is DeadLetter or given is Stop:
        return DeadLetter() if given is DeadLetter else Stop()
    if not isinstance(given, (DeadLetter, Stop)):
        raise DeclarationError(
            f"{given!r} is no policy for bad events",
            hint="Write headrace.DeadLetter(), headrace.Stop() or headrace.Retry(times, then=...).",
        )
    return given
