"""The one place that knows where loyalty's reads go: each is asked of one of two services, that moment's."""

from contextlib import closing
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from app.client import Answer, Client, NoAnswer
from headrace.events.token import Token


class Side(Enum):
    """Who answers for loyalty."""

    DATABASE = "database"
    """The old service, from the shared database."""
    OWN = "own"
    """The new one, from its own table."""


class Read(NamedTuple):
    """An answer, and what it stands for where that is told."""

    value: Any
    """None: there is no such row."""
    seen: Token | None


class Refusal(Exception):
    """No answer, or none that is as new as was asked for."""


class FrontDoor:
    """Where reads go; it is moved between two of them."""

    def __init__(self, *, database: str, own: str) -> None:
        self.addresses = {Side.DATABASE: database, Side.OWN: own}
        self.side = Side.DATABASE
        self.is_mirrored = False
        """Whether what the database answers is also asked of loyalty's own table, for comparison only."""

    def move(self, side: Side) -> None:
        """Let every read from here on go there; those that are under way end where they are."""
        self.side = side


class Doorway:
    """The way of one thread through the door: a kept connection to either side."""

    def __init__(self, door: FrontDoor) -> None:
        self._door = door
        self._clients = {side: Client(address) for side, address in door.addresses.items()}

    def read(self, path: str, seen: Token | None, wait_s: float, *, side: Side | None = None) -> Read:
        """Ask for at least what was seen. Raises: Refusal."""
        client = self._clients[side or self._door.side]
        try:
            answer = client.get(path, seen=seen, wait_s=wait_s)
        except NoAnswer as error:
            raise Refusal(str(error)) from error
        return _read(path, answer, client)

    def close(self) -> None:
        """Close both connections."""
        for client in self._clients.values():
            with closing(client):
                pass


def _read(path: str, answer: Answer, client: Client) -> Read:
    match answer.status:
        case 200:
            return Read(msgspec.json.decode(answer.body), answer.position)
        case 404:
            return Read(None, answer.position)
        case status:
            raise Refusal(f"GET {path} at {client.address}: {status} {answer.body[:200]!r}")
