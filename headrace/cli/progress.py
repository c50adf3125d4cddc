"""How far long work is: a bar on a terminal, plain lines elsewhere; on the standard error."""

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
    """Shown for the time of the block, once the work takes longer than a second."""

    def __init__(self, doing: str = "reading", unit: str = "offsets") -> None:
        self._doing = doing
        self._unit = unit
        self._began = 0.0
        self._next_at = 0.0
        self._open = ExitStack()
        self._bars: tuple[Bars, TaskID] | None = None

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._next_at = self._began + _PATIENCE_S
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def report(self, read: int, of: int) -> None:
        """Show that so many of so many are done, and about how long the others will take."""
        now = time.monotonic()
        if now < self._next_at:
            return
        if sys.stderr.isatty() and importlib.util.find_spec("rich"):
            self._next_at = now + _BAR_EVERY_S
            self._show_bar(read, of)
        else:
            self._next_at = now + _LINE_EVERY_S
            left_s = (now - self._began) * max(0, of - read) / read if read else None
            about = f", about {left_s:.0f} s left" if left_s is not None else ""
            done = f"{100 * read // max(1, of)} % ({read:,} of {of:,} {self._unit})"
            click.echo(f"headrace: {self._doing}: {done}{about}", err=True)

    def _show_bar(self, read: int, of: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        if self._bars is None:
            columns = (
                TextColumn(self._doing),
                BarColumn(),
                TextColumn(f"{{task.percentage:>3.0f}} % of {{task.total:,.0f}} {self._unit}"),
                TimeRemainingColumn(),
            )
            bars = Bars(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
            self._open.enter_context(bars)
            self._bars = (bars, bars.add_task(self._doing, total=max(1, of)))
        bars, bar = self._bars
        bars.update(bar, total=max(1, of), completed=read, refresh=True)
