"""A simulation is worth what it finds: each promise, broken on purpose, is found broken."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from headrace.flow import takeover
from headrace.tables.memory import MemoryStore
from headrace.tables.rows import Rows
from headrace.tables.store import Row
from headrace.testing import Crash, PromiseBroken, harness
from headrace.testing.fold import check_model
from tests.simulation.bank import Moved, archive_of, open_bank

EVENTS = [Moved(account, 600) for account in range(6)]


async def lived(*story: object) -> None:
    """Live through a story of the bank."""
    bank = open_bank()
    async with harness(bank.app, key="account") as h:
        await h.run(story)
        await h.check()


async def test_a_store_that_loses_rows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    write = MemoryStore.write

    def forgetful(self: MemoryStore, rows: Sequence[Row], mark: bytes | None = None) -> None:
        write(self, [row for row in rows if not row[0].startswith(b"balances\0")], mark)

    await lived(*EVENTS, Crash("quiet"))
    monkeypatch.setattr(MemoryStore, "write", forgetful)
    with pytest.raises(PromiseBroken, match="rows are not those of the changelog"):
        await lived(*EVENTS, Crash("quiet"))


async def test_a_take_over_that_forgets_its_position_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    await lived(*EVENTS, Crash("quiet"), *EVENTS)
    monkeypatch.setattr(takeover, "input_offsets", lambda last: {})
    with pytest.raises(PromiseBroken, match=r"the event at notes/\d, offset \d+, was sent twice"):
        await lived(*EVENTS, Crash("quiet"), *EVENTS)


async def test_a_unit_that_leaves_rows_out_of_its_changelog_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Rows.encode

    def careless(self: Rows, writes: Iterable[tuple[Any, Any]]) -> list[Row]:
        return [row for row in encode(self, writes) if b"archive" not in row[0]]

    monkeypatch.setattr(Rows, "encode", careless)
    bank = open_bank()
    async with harness(bank.app, key="account") as h:
        await h.run([*EVENTS, Crash("quiet")])
        with pytest.raises(PromiseBroken, match="rows of archive are not the fold of their events"):
            check_model(h, bank.archive, archive_of)
