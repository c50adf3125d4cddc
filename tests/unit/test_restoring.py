"""What people see while tables are restored."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from headrace.restoring import progress, show
from headrace.tables.view import PartitionView, ViewState


def view(partition: int, *, start: int, offset: int, end: int) -> PartitionView:
    made = PartitionView("main", partition)
    made.restore_start, made.restore_offset, made.restore_end = start, offset, end
    return made


def _noting(written: asyncio.Event) -> Callable[[logging.LogRecord], bool]:
    def note(_: logging.LogRecord) -> bool:
        written.set()
        return True

    return note


def test_progress_counts_only_partitions_that_are_being_restored() -> None:
    closed = view(2, start=0, offset=0, end=1_000)
    closed.close(ViewState.CLOSED)
    seen = progress([view(0, start=100, offset=150, end=200), view(1, start=0, offset=0, end=300), closed])
    assert (seen.partitions, seen.records, seen.records_all) == (2, 50, 400)
    assert str(seen) == "restoring 2 partitions: 12 % (50 of 400 changelog records)"


async def test_a_long_restore_writes_plain_lines_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done, written = asyncio.Event(), asyncio.Event()
    caplog.handler.addFilter(_noting(written))
    views = [view(0, start=0, offset=5, end=10)]
    with caplog.at_level(logging.INFO, logger="headrace.restoring"):
        showing = asyncio.create_task(show(lambda: views, done), name="show")
        async with asyncio.timeout(10):
            await written.wait()
        done.set()
        await showing
    assert caplog.messages == ["restoring 1 partitions: 50 % (5 of 10 changelog records)", "Restored"]


async def test_a_short_restore_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    done = asyncio.Event()
    done.set()
    with caplog.at_level(logging.INFO, logger="headrace.restoring"):
        await show(lambda: [], done)
    assert not caplog.messages
