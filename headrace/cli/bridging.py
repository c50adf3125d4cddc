"""`bridge`: the commands that help to leave a shared database."""

from headrace.cli.command import CommandGroup

BRIDGE = CommandGroup("bridge", "Leave a shared database: compare it with a table, and mend what differs.")
