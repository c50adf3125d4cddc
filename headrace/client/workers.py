"""The workers of one service: which one is asked next, and which are left alone for a while."""

from collections.abc import Iterable, Sequence

import httpx

_SHUNNED_S = 2.0
"""How long a worker that did not answer comes after the others."""

Origin = tuple[str, str, int | None]


class Workers:
    """Base URLs of workers that can answer for one another."""

    def __init__(self, base_urls: Iterable[str]) -> None:
        self.urls = [httpx.URL(url) for url in base_urls]
        if not self.urls:
            raise TypeError("a client needs the base URL of one worker at least")
        for url in self.urls:
            if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
                raise ValueError(f"{url} is not the base URL of a worker, such as http://127.0.0.1:6066")
            if url.path.rstrip("/") != self.urls[0].path.rstrip("/"):
                raise ValueError("the base URLs of one service have one path; only their hosts differ")
        self._origins = {origin(url) for url in self.urls}
        self._next = 0
        self._silent_at: dict[int, float] = {}

    def has(self, url: httpx.URL) -> bool:
        """Whether a request goes to this service, and not elsewhere as after a redirect."""
        return origin(url) in self._origins

    def in_turn(self, now_s: float) -> Sequence[int]:
        """All workers, the one whose turn it is first, those that were silent just now last."""
        self._next = (self._next + 1) % len(self.urls)
        turn = [(self._next + at) % len(self.urls) for at in range(len(self.urls))]
        return sorted(turn, key=lambda each: now_s - self._silent_at.get(each, -_SHUNNED_S) < _SHUNNED_S)

    def note_silence(self, worker: int, now_s: float) -> None:
        """A worker did not answer."""
        self._silent_at[worker] = now_s

    def note_answer(self, worker: int) -> None:
        """A worker answered."""
        self._silent_at.pop(worker, None)

    def at(self, worker: int, url: httpx.URL) -> httpx.URL:
        """The same URL at this worker."""
        there = self.urls[worker]
        return url.copy_with(scheme=there.scheme, host=there.host, port=there.port)


def origin(url: httpx.URL) -> Origin:
    """Scheme, host and port of a URL."""
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, url.port or default
