"""What the running workers of an app say of their partitions, asked over HTTP."""

import asyncio
import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headrace.flow.members import announced
from headrace.http.address import split_address
from headrace.http.whiteboard.board import Board, HeldCard, PartitionCard
from headrace.http.whiteboard.whiteboard import BOARD
from headrace.log.port import Log

_TIMEOUT_S = 3.0
_BYTES_MAX = 16 * 1024 * 1024


class NoAnswer(Exception):
    """A worker did not say how its partitions are, and why."""


@dataclass(slots=True)
class Heard:
    """What was heard of the partitions of an app."""

    cards: dict[tuple[str, int], PartitionCard] = field(default_factory=dict)
    """By group and number, of those that some worker has."""
    refusals: list[str] = field(default_factory=list)
    """Who did not answer, and why."""

    def held(self, group: str, number: int) -> tuple[HeldCard, ...] | None:
        """The held inputs of a partition; None when no worker that answers has it."""
        card = self.cards.get((group, number))
        return card.held if card is not None else None


async def ask_workers(log: Log, app: str, *, token: str | None) -> Heard:
    """Ask every announced worker; a token goes to each of them, and only if one is given."""
    heard = Heard()
    addresses = await announced(log, app)
    answers = await asyncio.gather(
        *(asyncio.to_thread(_board, address, token) for address in addresses.values()),
        return_exceptions=True,
    )
    for (instance, address), answer in zip(addresses.items(), answers, strict=True):
        if isinstance(answer, NoAnswer):
            heard.refusals.append(f"{instance} at {address}: {answer}")
        elif isinstance(answer, BaseException):
            raise answer
        elif answer.app == app:
            owned = (card for card in answer.partitions if card.state != "elsewhere")
            heard.cards.update({(card.group, card.number): card for card in owned})
    return heard


def _board(address: str, token: str | None) -> Board:
    """The board of the worker at this address. Raises: NoAnswer."""
    host, port = split_address(address, "an announced address")
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("GET", BOARD.decode(), headers=headers)
        answer = connection.getresponse()
        body = answer.read(_BYTES_MAX)
        if answer.status != 200:
            hint = "; --token-file gives it a token" if answer.status == 401 else ""
            raise NoAnswer(f"it answers {answer.status}{hint}")
        return msgspec.json.decode(body, type=Board)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise NoAnswer(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def held_as_json(held: HeldCard) -> Mapping[str, Any]:
    """One held input for scripts."""
    return {
        "topic": held.topic,
        "offset": held.offset,
        "for_s": round(held.for_s, 3),
        "waits_for": held.waits_for,
    }
