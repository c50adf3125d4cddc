"""The connections that the writers of a worker share."""

import asyncio
from collections.abc import Callable

from headrace.log.kafka.connections import Connections

LANES_MAX = 8
"""A broker handles the requests of one connection one after the other, so that one lane would hold up
the commits of all tasks; one for each task is a connection per task and broker."""


class Lane:
    """One connection to each node. A writer keeps to its lane, so that its requests stay in order."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.writers = 0

    def give_back(self) -> None:
        """One writer less is on it; the connections stay for the others."""
        self.writers -= 1


class Lanes:
    """A few lanes, opened when first needed; a new writer takes the one that has the fewest."""

    def __init__(self, build: Callable[[], Connections], lanes_max: int = LANES_MAX) -> None:
        self._build = build
        self._lanes_max = lanes_max
        self._lanes: list[Lane] = []

    def take(self) -> Lane:
        """A lane for one more writer."""
        free = min(self._lanes, key=lambda lane: lane.writers, default=None)
        if free is None or (free.writers and len(self._lanes) < self._lanes_max):
            free = Lane(self._build())
            self._lanes.append(free)
        free.writers += 1
        return free

    async def close(self) -> None:
        """Close all connections; writers that are left can do nothing more."""
        await asyncio.gather(*(lane.connections.close() for lane in self._lanes))
        self._lanes.clear()
