"""What one user has seen of a cluster: kept between their requests, whatever service they go to."""

import logging
import threading

from headrace.events.token import Token

logger = logging.getLogger(__name__)


class Session:
    """The token of one user; it only ever grows. Safe to use from several threads.

    Shape: `position` is the text of the Headrace-Position header, to be kept and given back later.
    """

    def __init__(self, position: str | None = None) -> None:
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._was_told = False
        if position:
            self.saw(position)

    @property
    def position(self) -> str | None:
        """What was seen so far; None at the beginning."""
        with self._lock:
            return self._token.text() if self._token is not None else None

    @property
    def is_whole(self) -> bool:
        """Whether `position` names all that was seen: a token holds so many components and says when it
        was cut; what it does not name is not waited for."""
        with self._lock:
            return self._token is None or not Token.parse(self._token.text()).seen.is_cut

    def saw(self, position: str) -> None:
        """Add what an answer says. Raises: MalformedToken; ForeignToken for what cannot be compared."""
        told = Token.parse(position)
        with self._lock:
            self._token = told if self._token is None else self._token.merge(told)
        if not self._was_told and not self.is_whole:
            self._was_told = True
            logger.warning("More was seen than a position token holds; reads do not wait for all of it")

    def forget(self) -> None:
        """Begin anew, as after ForeignToken: the next read waits for nothing."""
        with self._lock:
            self._token = None
