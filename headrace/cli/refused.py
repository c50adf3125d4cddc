"""Commands of Faust's whose answer would be empty or wrong here: they say what to do instead."""

from typing import ClassVar

import click

from headrace.cli.command import BareCommand, ExitStatus, argument


class _Refused(BareCommand):
    abstract: ClassVar[bool] = True
    instead: ClassVar[str]

    async def answer(self) -> ExitStatus:
        """Say what to do instead."""
        raise click.UsageError(self.instead)


class CleanVersions(_Refused):
    """Refused: headrace keeps no data folders per app version."""

    command_name = "clean-versions"
    example = "-A app.shop verify"
    instead = (
        "there is nothing to clean: data folders have no versions here; "
        "a store that no worker uses can be removed by hand, its changelog has all of it."
    )


class Models(_Refused):
    """Refused: events are typed structs and not registered anywhere; `agents` shows who reads what."""

    example = "-A app.shop agents"
    instead = (
        "events are typed structs, not faust.Record models; `agents` and `topics` show what is declared."
    )


class Model(_Refused):
    """Refused: events are typed structs and not registered anywhere; `agents` shows who reads what."""

    example = "-A app.shop agents"
    options = [argument("name", required=False)]
    instead = Models.instead


class LiveCheck(_Refused):
    """Refused: Faust's LiveCheck tests a running app through Faust's own consumer."""

    example = "-A app.shop verify"
    instead = (
        "LiveCheck is not part of headrace; `verify` compares stores with their changelogs, "
        "and headrace.testing has a harness for tests."
    )
