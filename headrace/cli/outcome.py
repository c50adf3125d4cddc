"""How a command ends: a status for scripts, a sentence for people, an object where JSON was asked for."""

from enum import IntEnum
from typing import Any

import click
import msgspec

from headrace.errors import HeadraceError, SettingsError


class ExitStatus(IntEnum):
    """What a script can tell from how a command ended."""

    YES = 0
    """Done; or: it is so."""
    NO = 1
    """It is not so: no such row, a topic is missing, a store differs from its log."""
    MISUSE = 2
    """The command line or a setting is wrong."""
    UNKNOWN = 3
    """It could not be told, or not be done: the log does not answer, say."""


class NotDone(click.ClickException):
    """This machine refused what a command had to do: a file or a folder, say."""

    exit_code = ExitStatus.UNKNOWN


def report(error: HeadraceError | click.ClickException, *, as_json: bool) -> int:
    """Say what went wrong, on the standard error and, as JSON, where an answer would be; the exit status."""
    if isinstance(error, HeadraceError):
        status = int(ExitStatus.MISUSE if isinstance(error, SettingsError) else ExitStatus.UNKNOWN)
        click.echo(f"headrace: {type(error).__name__}: {error}", err=True)
        facts = {
            "what": error.what,
            "hint": error.next_step,
            "topic": error.topic,
            "partition": error.partition,
            "offset": error.offset,
        }
    else:
        status = int(error.exit_code)
        error.show()
        facts = {"what": error.format_message(), "hint": _where_help_is(error)}
    if as_json:
        click.echo(msgspec.json.encode({"error": _told(type(error).__name__, facts, status)}).decode())
    return status


def _told(name: str, facts: dict[str, Any], status: int) -> dict[str, Any]:
    told = {fact: value for fact, value in facts.items() if value not in (None, "")}
    return {"type": name, **told, "status": status}


def _where_help_is(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"See `{context.command_path} --help`." if context is not None else ""
