"""`completion`: what makes a shell complete commands, options, and the names of tables and topics."""

import click
from click.shell_completion import CompletionItem, get_completion_class
from faust.cli.base import find_app

from headrace.cli.command import BareCommand, ExitStatus, argument

_VARIABLE = "_HEADRACE_COMPLETE"
_PROGRAM = "headrace"


class Completion(BareCommand):
    """Write the script that makes SHELL (bash, zsh or fish) complete `headrace`.

    With -A it completes the app's own commands and the names of its tables and topics, too.
    """

    example = 'completion bash    # in ~/.bashrc: eval "$(headrace completion bash)"'
    options = [argument("shell", type=click.Choice(["bash", "zsh", "fish"]))]

    async def answer(self) -> ExitStatus:
        """The script; with --json as the value of `script`."""
        shell = get_completion_class(self.kwargs["shell"])
        if shell is None:
            raise click.UsageError(f"this version of click has no completion for {self.kwargs['shell']}")
        completion = shell(self.ctx.find_root().command, {}, _PROGRAM, _VARIABLE)
        # Not `source()`: it starts the shell to warn of its version, and a script may be made elsewhere.
        script = completion.source_template % completion.source_vars()
        if self.json:
            self.show_json({"shell": self.kwargs["shell"], "script": script})
        else:
            click.echo(script)
        return ExitStatus.YES


def table_names(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The app's tables whose name begins like this."""
    return _declared(ctx, "tables", begun)


def topic_names(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The app's topics whose name begins like this."""
    return _declared(ctx, "topics", begun)


def _declared(ctx: click.Context, kind: str, begun: str) -> list[CompletionItem]:
    name = ctx.find_root().params.get("app")
    if not name:
        return []
    try:
        declared = getattr(find_app(name), "declarations", None)
    except Exception:  # noqa: BLE001  (an app that does not import has no names to offer; a command says why)
        return []
    names = getattr(declared, kind, {})
    return [CompletionItem(each) for each in names if each.startswith(begun)]
