"""What is wrong with a request: how it came here, what it repeats, which position it names."""

from headrace.errors.root import HeadraceError


class PeerError(HeadraceError):
    """Another worker of the app, which owns what was asked for, cannot be asked."""

    hint = "Its own log says more; try again, or ask that worker."

    def __init__(self, what: str, *, hint: str | None = None, was_sent: bool = False) -> None:
        super().__init__(what, hint=hint)
        self.was_sent = was_sent
        """Whether the request may have reached it: what it did then is not known."""


class PeerUnreachable(PeerError):
    """The worker that owns what was asked for does not answer, not in time, or nothing sensible."""

    hint = "Check that its address (HEADRACE_ADVERTISE) can be reached from here; try again shortly."


class PeerUnproven(PeerError):
    """Nothing proves that who answers at an announced address is that worker: it gets nothing to see."""

    hint = "Give all workers of the app the same HEADRACE_PEER_SECRET, or TLS and HEADRACE_PEER_CA_FILE."


class RequestError(HeadraceError):
    """A request with an Idempotency-Key that is not taken; nothing was sent."""

    hint = "The message says what is wrong with the request; correct it, and send it under a new key."


class MalformedKey(RequestError):
    """The Idempotency-Key header holds no key."""

    hint = 'Send one key of up to 255 visible characters, such as a UUID: Idempotency-Key: "8e03978e-40d5".'


class KeyReused(RequestError):
    """The Idempotency-Key was used for a request with another method, path or body."""

    hint = "Make a new key for each request; repeat a key only with the very same request."


class UnrecordableAnswer(RequestError):
    """The answer of an endpoint cannot be kept for repetition: it is a stream, or too large."""

    hint = "Send the request without Idempotency-Key, or let the endpoint answer in a few words."


class PositionError(HeadraceError):
    """A position that cannot be judged here."""


class MalformedToken(PositionError):
    """This text is not a position token."""

    hint = "Send back the Headrace-Position header as it was received."


class ForeignToken(PositionError):
    """A token of another cluster, or of a topic that was recreated since."""

    hint = "Forget the token and read without it."


class UntrueToken(PositionError):
    """A token that names what is not in the log."""

    hint = "Send back the Headrace-Position header as it was received, or read without it."
