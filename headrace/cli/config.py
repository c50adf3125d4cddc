"""`config`: each setting, its value, and where the value came from."""

import click

from headrace.cli.command import Command, ExitStatus, command_line_settings


class Config(Command):
    """Show each setting, its value and where it came from; secrets are hidden."""

    example = "-A app.shop config"

    async def answer(self) -> ExitStatus:
        """One row per setting."""
        loaded = self.declared_app.settings_of_run(command_line_settings(self.ctx))
        rows = [
            {"setting": name, "value": value, "origin": origin.value}
            for name, value, origin in loaded.shown()
        ]
        self.show(("setting", "value", "origin"), rows)
        for warning in loaded.warnings:
            click.echo(f"headrace: {warning}", err=True)
        return ExitStatus.YES
