"""The console script `headrace`: Faust's commands and ours, on the app that -A names."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from faust.cli.base import _apply_options, _Group, _prepare_cli, builtin_options, find_app
from faust.cli.base import cli as faust_program

from headrace.bridge.contractonly import forbid_databases
from headrace.cli import commands
from headrace.cli.command import OVERRIDES
from headrace.cli.outcome import ExitStatus, report
from headrace.cli.worker import CONTRACT_ONLY
from headrace.errors import HeadraceError

__all__ = ["commands", "main", "program"]


class AppNotImported(click.ClickException):
    """The module that -A names cannot be imported."""

    exit_code = ExitStatus.NO

    def __init__(self, app: str, error: BaseException) -> None:
        # The import machinery's own frames say nothing to the one who wrote the app.
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
        place = f"  {frames[-1].filename}, line {frames[-1].lineno}\n" if frames else ""
        last_line = traceback.format_exception_only(error)[-1].rstrip()
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == app.partition(".")[0]
        where = "; run this in the folder that holds it, or name the folder with -W" if is_absent else ""
        super().__init__(f"the app {app} could not be imported{where}\n{place}{last_line}")


class Program(_Group):
    """Faust's command group, with the working folder on the module path and a fatal import."""

    _arguments: Sequence[str] = ()
    _is_imported = False
    _is_completing = False

    def make_context(self, info_name: str, args: Any, **extra: Any) -> click.Context:  # type: ignore[override]
        """Import the app on the way, so that its own commands are known."""
        self._arguments, self._is_imported = list(args), False
        self._is_completing = bool(extra.get("resilient_parsing"))
        context: click.Context = super().make_context(info_name, args, **extra)
        return context

    def _maybe_import_app(self, argv: Sequence[str] = ()) -> None:
        if self._is_imported:
            return
        self._is_imported = True
        folder = self._extract_param(self._arguments, "-W", "--workdir")
        if folder:
            os.chdir(folder)
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        app = self._extract_param(self._arguments, "-A", "--app")
        if app is None:
            return
        if CONTRACT_ONLY in self._arguments:
            # Before the app: what it imports is refused where it does.
            forbid_databases()
        try:
            find_app(app)
        except Exception as error:
            if self._is_completing:
                return  # somebody is typing: what is known without the app can still be completed
            raise AppNotImported(app, error) from error


def _read_overrides(ctx: click.Context, _: click.Parameter, given: tuple[str, ...]) -> None:
    found: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        found[name.strip().lower()] = value
    ctx.meta[OVERRIDES] = found


@click.group(
    cls=Program,
    name="headrace",
    commands=faust_program.commands,
    help="Run an app's worker, and look at its topics, tables and settings.\n\n"
    "Exit status: 0 yes, 1 no (or the app cannot be imported), 2 misuse, 3 could not be told.",
    epilog="\b\nExamples:\n  headrace new shop\n  headrace -A app.shop worker -l info",
)
@_apply_options(list(builtin_options[1:]))
@click.option(
    "--set",
    "-s",
    metavar="NAME=VALUE",
    multiple=True,
    expose_value=False,
    callback=_read_overrides,
    help="A setting; wins over the environment (may be given several times).",
)
@click.version_option(version("headrace"), prog_name="headrace")
@click.pass_context
def program(ctx: click.Context, /, **options: Any) -> None:
    """Keep what was given for the command that follows."""
    _prepare_cli(ctx, **options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends with SystemExit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in (given[: given.index("--")] if "--" in given else given)
    try:
        status = program.main(args=given, prog_name="headrace", standalone_mode=False)
    except (HeadraceError, click.ClickException) as error:
        status = report(error, as_json=as_json)
    except click.Abort:
        click.echo("headrace: interrupted", err=True)
        status = ExitStatus.NO
    raise SystemExit(int(status or ExitStatus.YES))
