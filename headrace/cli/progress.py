"""How far a long reading of the log is: a bar on a terminal, plain lines elsewhere; on the standard error."""

import importlib.util
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_PATIENCE_S = 1.0
"""What is shorter is not worth a word."""
_LINE_EVERY_S = 5.0
_BAR_EVERY_S = 0.2


class ReadingProgress(AbstractContextManager["ReadingProgress"]):
    """Shown for the time of the block, once a reading takes longer than a second."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._open = ExitStack()
        self._bars: tuple[Bars, TaskID] | None = None

    def __enter__(self) -> Self:
        self._next_at = time.monotonic() + _PATIENCE_S
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def report(self, read: int, of: int) -> None:
        """Show that so many offsets of so many are read."""
        now = time.monotonic()
        if now < self._next_at:
            return
        if sys.stderr.isatty() and importlib.util.find_spec("rich"):
            self._next_at = now + _BAR_EVERY_S
            self._show_bar(read, of)
        else:
            self._next_at = now + _LINE_EVERY_S
            click.echo(
                f"headrace: reading: {100 * read // max(1, of)} % ({read:,} of {of:,} offsets)", err=True
            )

    def _show_bar(self, read: int, of: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        if self._bars is None:
            columns = (
                TextColumn("reading"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} % of {task.total:,.0f} offsets"),
                TimeRemainingColumn(),
            )
            bars = Bars(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
            self._open.enter_context(bars)
            self._bars = (bars, bars.add_task("reading", total=max(1, of)))
        bars, bar = self._bars
        bars.update(bar, total=max(1, of), completed=read, refresh=True)
