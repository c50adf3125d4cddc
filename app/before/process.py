"""The old services, each in a process of its own."""

import sys
from pathlib import Path

from app.service import ServiceProcess

NAMES = ("checkout", "promotions", "loyalty")


class OldService(ServiceProcess):
    """One of the three, on the database at this address."""

    def __init__(self, name: str, *, port: int, folder: Path, database: str) -> None:
        program = [sys.executable, "-m", "app.before", name]
        super().__init__(f"old-{name}", program, port=port, folder=folder)
        self.settings["HEADRACE_DATABASE"] = database
