"""What a person sees of the demo: live progress on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from app.replay import Progress
from app.verdict import Verdict

_LINE_EVERY_S = 2.0


class Screen:
    """Writes to standard output."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)

    def say(self, line: str) -> None:
        """Write a line as it is, however wide the terminal."""
        self._console.print(line, soft_wrap=True)

    @contextmanager
    def following(self, baskets: int, redemptions: int) -> Iterator[Callable[[Progress], None]]:
        """Show how a replay goes on; call what is yielded with its progress."""
        if not self._console.is_terminal:
            yield self._line_writer(baskets, redemptions)
            return
        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self._console) as bars:
            basket_bar = bars.add_task("baskets", total=baskets)
            redemption_bar = bars.add_task("redemptions", total=redemptions)

            def show(progress: Progress) -> None:
                bars.update(basket_bar, completed=progress.baskets)
                bars.update(redemption_bar, completed=progress.redemptions)

            yield show

    def _line_writer(self, baskets: int, redemptions: int) -> Callable[[Progress], None]:
        written_at = time.monotonic()

        def show(progress: Progress) -> None:
            nonlocal written_at
            if time.monotonic() - written_at >= _LINE_EVERY_S:
                written_at = time.monotonic()
                self.say(
                    f"  baskets {progress.baskets:,} of {baskets:,}, "
                    f"redemptions {progress.redemptions:,} of {redemptions:,}"
                )

        return show

    def show_verdict(self, verdict: Verdict) -> None:
        """Show the verdict as a table and a sentence."""
        table = Table(title=f"{verdict.households:,} households, read over HTTP", title_justify="left")
        table.add_column("what")
        for name in ("services", "truth", "households wrong"):
            table.add_column(name, justify="right")
        table.add_column("exact")
        for finding in verdict.findings:
            table.add_row(
                finding.what,
                f"{finding.found:,}",
                f"{finding.expected:,}",
                f"{finding.households_wrong:,}",
                "yes" if finding.is_exact else "NO",
            )
        self._console.print(table)
        if verdict.is_exact:
            self.say("Every household is exact, to the cent.")
        else:
            self.say("The tables differ from the truth. That is a bug: please report it with this output.")
