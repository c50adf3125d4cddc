"""What every command shares: the app with its settings, an open log, output for people and for scripts."""

import asyncio
import inspect
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

import click
import msgspec
from click.core import ParameterSource
from faust.cli.base import AppCommand, State, _apply_options, argument, option
from faust.cli.base import Command as FaustCommand
from faust.cli.base import cli as faust_program

from headrace.cli.outcome import ExitStatus, NotDone, report
from headrace.errors import HeadraceError, Unavailable
from headrace.log.connect import connect
from headrace.log.port import Log
from headrace.settings import Settings

if TYPE_CHECKING:
    from headrace.app import App

__all__ = [
    "OVERRIDES",
    "BareCommand",
    "Command",
    "CommandGroup",
    "ExitStatus",
    "NotDone",
    "argument",
    "option",
]

OVERRIDES = "headrace.overrides"
"""Where the command line's settings are in a click context's `meta`."""

_EMBEDDED = "embedded://"


def command_line_settings(ctx: click.Context) -> dict[str, str]:
    """The settings that the command line gives, by name."""
    found: dict[str, str] = {}
    # Faust's --datadir has a default of its own, which is not what somebody wrote.
    if ctx.find_root().get_parameter_source("datadir") is ParameterSource.COMMANDLINE:
        found["data"] = str(ctx.ensure_object(State).datadir)
    found.update(ctx.meta.get(OVERRIDES, {}))
    return found


class CommandGroup(click.Group):
    """Commands under one name, such as `dead-letters list`."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(name=name, help=sentence)
        faust_program.add_command(self)


class _Answering:
    """What commands with and without an app share: how they are registered, run, and end."""

    command_name: ClassVar[str] = ""
    command_group: ClassVar[click.Group] = faust_program
    example: ClassVar[str] = ""
    """How it may be typed, behind `headrace `."""
    options: Any = None
    json: bool

    @classmethod
    def as_click_command(cls) -> Any:
        """Register with its group, in place of a command of the same name."""

        @click.pass_context
        def invoke(ctx: click.Context, /, **given: Any) -> None:
            as_json = given.pop("as_json", False)
            # Said to the whole context: an error of the constructor is told as JSON, too.
            ctx.ensure_object(State).json |= as_json
            try:
                cast(Any, cls)(ctx, **given)()
            except click.ClickException as error:
                if not ctx.ensure_object(State).json:
                    raise
                raise SystemExit(report(error, as_json=True)) from error

        name = cls.command_name or cls.__name__.lower()
        # \b keeps click from folding the example into a paragraph.
        epilog = f"\b\nExample:\n  headrace {cls.example}"
        registered = cls.command_group.command(name=name, help=inspect.getdoc(cls), epilog=epilog)(invoke)
        flag = option("--json", "as_json", is_flag=True, show_default=False, help="Write JSON.")
        return _apply_options([*(cls.options or []), flag])(registered)

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Run to the end; the exit status is the command's answer."""
        try:
            status = int(asyncio.run(self.answer()))
        except HeadraceError as error:
            status = report(error, as_json=self.json)
        raise SystemExit(status)

    @abstractmethod
    async def answer(self) -> ExitStatus:
        """Do what the command is for, with the options in `self.kwargs`."""

    def show(self, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows: aligned columns for people, a JSON array for scripts."""
        if self.json:
            self.show_json(rows)
            return
        cells = [[_cell(row.get(column)) for column in columns] for row in rows]
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for line in ([name.upper() for name in columns], *cells):
            padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
            click.echo("  ".join(padded).rstrip())

    def show_json(self, answer: Any) -> None:
        """Write one JSON value on one line."""
        click.echo(msgspec.json.encode(answer).decode())


class BareCommand(_Answering, FaustCommand):
    """A command that needs no app."""

    abstract: ClassVar[bool] = True


class Command(_Answering, AppCommand):
    """A command on an app; subclasses say what it does in `answer` and return an exit status."""

    abstract: ClassVar[bool] = True

    @property
    def declared_app(self) -> "App":
        """The app that -A names. Raises: UsageError when it is no headrace app."""
        if not hasattr(self.app, "declarations"):
            raise click.UsageError(f"{self.state.app} is a faust.App; this command needs a headrace.App")
        return cast("App", self.app)

    def settings(self) -> Settings:
        """The settings of a worker that would start here and now. Raises: SettingsError."""
        loaded = self.declared_app.settings_of_run(command_line_settings(self.ctx))
        for warning in loaded.warnings:
            click.echo(f"headrace: {warning}", err=True)
        return loaded.settings

    @asynccontextmanager
    async def open_log(self, settings: Settings, *, may_create: bool = False) -> AsyncIterator[Log]:
        """The log, for the time of the block; nothing joins the app's group. Raises: Unavailable."""
        if not may_create:
            _require_file(settings.log)
        log = connect(settings)
        await log.open()
        try:
            yield log
        finally:
            await log.close()


def _require_file(address: str) -> None:
    """Opening an embedded log would make its file; who only looks must not leave one behind."""
    path = address.removeprefix(_EMBEDDED)
    if path != address and not Path(path).exists():
        raise Unavailable(f"there is no log at {path} yet", hint="A worker makes it when it starts.")


def _cell(value: Any) -> str:
    match value:
        case None | "" | ():
            return "-"
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return " ".join(f"{name}:{part}" for name, part in value.items())
        case list() | tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)
