"""Shows how far the restore of a worker's partitions is: a bar on a terminal, plain lines elsewhere."""

import asyncio
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.tables.view import PartitionView, ViewState

logger = logging.getLogger(__name__)

_PATIENCE_S = 1.0
"""A restore that is shorter is not worth a word."""
_LINE_EVERY_S = 5.0
_BAR_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the changelogs is read."""

    partitions: int
    """Partitions that are being restored."""
    records: int
    """Changelog offsets behind us, over these partitions."""
    records_all: int

    def __str__(self) -> str:
        share = 100 * self.records / self.records_all if self.records_all else 0
        return (
            f"restoring {self.partitions} partitions: {share:.0f} % "
            f"({self.records:,} of {self.records_all:,} changelog records)"
        )


def progress(views: Sequence[PartitionView]) -> Progress:
    """The progress of the partitions that are being restored now."""
    restoring = [view for view in views if view.state is ViewState.RESTORING]
    return Progress(
        len(restoring),
        sum(view.restore_offset - view.restore_start for view in restoring),
        sum(max(0, view.restore_end - view.restore_start) for view in restoring),
    )


async def show(views: Callable[[], Sequence[PartitionView]], done: asyncio.Event) -> None:
    """Show progress until `done`."""
    if await _is_done_within(done, _PATIENCE_S):
        return
    if sys.stderr.isatty() and importlib.util.find_spec("rich"):
        await _show_bar(views, done)
    else:
        while not done.is_set():
            logger.info("%s", progress(views()))
            await _is_done_within(done, _LINE_EVERY_S)
    logger.info("Restored")


async def _show_bar(views: Callable[[], Sequence[PartitionView]], done: asyncio.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("restoring"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} changelog records"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bars:
        bar = bars.add_task("restore", total=1)
        restored_all = 0
        while not done.is_set():
            now = progress(views())
            restored_all = max(restored_all, now.records_all)
            left = now.records_all - now.records
            bars.update(bar, total=max(1, restored_all), completed=restored_all - left, refresh=True)
            await _is_done_within(done, _BAR_EVERY_S)


async def _is_done_within(done: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        return False
    return True
