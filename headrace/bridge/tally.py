"""How many statements this process has sent to databases, over all its connections."""

import threading
from collections.abc import Iterator
from typing import Final

from headrace.http.metric import STATEMENTS, Sample


class Tally:
    """Counts from several threads: a connection to SQLite has one of its own."""

    def __init__(self) -> None:
        self.statements = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        """One more was sent."""
        with self._lock:
            self.statements += 1

    def samples(self) -> Iterator[Sample]:
        """The count for /metrics; a process that has sent nothing has no such metric."""
        if self.statements:
            yield Sample(STATEMENTS, (), self.statements)


PROCESS: Final = Tally()
