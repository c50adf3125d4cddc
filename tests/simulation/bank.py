"""The service that is simulated: two groups, a topic that both read, a loop, outputs that are sent once."""

from dataclasses import dataclass

import headrace


class Moved(headrace.Event, frozen=True):
    """Money came to an account, or left it."""

    account: int
    cents: int


class Closed(headrace.Event, frozen=True):
    """An account was closed, and begins anew with the next movement."""

    account: int


class Noted(headrace.Event, frozen=True):
    """A movement was large; sent by the bank itself."""

    account: int
    number: int


@dataclass(frozen=True)
class Bank:
    """The declarations of the bank."""

    app: headrace.App
    movements: headrace.Topic[int, Moved | Closed]
    notes: headrace.Topic[int, Noted]
    balances: headrace.Table[int, int]
    movements_seen: headrace.Table[int, int]
    notes_seen: headrace.Table[int, tuple[int, ...]]
    archive: headrace.Table[int, int]


def open_bank() -> Bank:
    """A bank: large movements are noted; notes are kept in its own group, refusing some, and in another."""
    app = headrace.App("bank")
    movements: headrace.Topic[int, Moved | Closed] = app.topic(
        "movements", key_type=int, value_type=Moved | Closed, partitions=3
    )
    notes: headrace.Topic[int, Noted] = app.topic("notes", key_type=int, value_type=Noted, partitions=3)
    bank = Bank(
        app,
        movements,
        notes,
        app.Table("balances", key_type=int, default=int),
        app.Table("movements_seen", key_type=int, default=int),
        app.Table("notes_seen", key_type=int, value_type=tuple[int, ...], default=tuple),
        app.Table("archive", key_type=int, default=int, group="archive"),
    )

    @app.agent(movements)
    async def book(events: headrace.Stream[Moved | Closed]) -> None:
        async for event in events:
            match event:
                case Moved(account, cents):
                    bank.balances[account] += cents
                    if cents >= 500:
                        await notes.send(value=Noted(account, bank.movements_seen[account]))
                case Closed(account):
                    bank.balances.discard(account)

    @app.agent(movements)
    async def count(events: headrace.Stream[Moved | Closed]) -> None:
        async for event in events:
            bank.movements_seen[event.account] += 1

    @app.agent(notes)
    async def collect(events: headrace.Stream[Noted]) -> None:
        async for event in events:
            if event.number % 7 == 3:
                raise ValueError("three is refused")
            bank.notes_seen[event.account] = (*bank.notes_seen[event.account], event.number)[-5:]

    @app.agent(notes, group="archive")
    async def keep(events: headrace.Stream[Noted]) -> None:
        async for event in events:
            bank.archive[event.account] += 1

    return bank


def balance_of(rows: dict[int, int], event: Moved | Closed | Noted) -> None:
    """What an event does to the balances, told without headrace."""
    match event:
        case Moved(account, cents):
            rows[account] = rows.get(account, 0) + cents
        case Closed(account):
            rows.pop(account, None)


def seen_of(rows: dict[int, int], event: Moved | Closed | Noted) -> None:
    """What an event does to the counts of movements."""
    if not isinstance(event, Noted):
        rows[event.account] = rows.get(event.account, 0) + 1


def archive_of(rows: dict[int, int], event: Noted) -> None:
    """What a note does to the archive."""
    rows[event.account] = rows.get(event.account, 0) + 1
