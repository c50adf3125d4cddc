"""The processes of the chain: three old services on one database, and what loyalty leaves it by."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from app.before.process import NAMES, OldService
from app.migrate.load import Source
from app.migrate.sides import ROWS_MAX
from app.service import Service, ServiceProcess, free_port

PORTS = {"checkout": 6076, "promotions": 6077, "loyalty": 6078}
BRIDGE_PORT, OWN_PORT = 6079, 6080


class Chain:
    """All of them, started when it is their turn."""

    def __init__(self, folder: Path, database: str, log_url: str) -> None:
        self.old = {
            name: OldService(name, port=free_port(PORTS[name]), folder=folder, database=database)
            for name in NAMES
        }
        self.bridge = Service("database", port=free_port(BRIDGE_PORT), folder=folder, log_url=log_url)
        self.own = Service("leaving", port=free_port(OWN_PORT), folder=folder, log_url=log_url)
        for worker in (self.bridge, self.own):
            worker.settings["HEADRACE_DATABASE"] = database
        self.own.settings["HEADRACE_PAGE_ROWS_MAX"] = str(ROWS_MAX)
        self.alone = Service(
            "loyalty", port=int(self.own.address.rpartition(":")[2]), folder=folder, log_url=log_url
        )
        """Loyalty once more, with the same tables, where no connection to a database is possible."""
        self.alone.settings |= {
            "HEADRACE_DATA": self.own.settings["HEADRACE_DATA"],
            "HEADRACE_PAGE_ROWS_MAX": str(ROWS_MAX),
            "HEADRACE_CONTRACT_ONLY": "true",
        }
        # It tells positions of this log once the applier writes its tables.
        self.old["loyalty"].settings["HEADRACE_LOG"] = log_url
        self._running: list[ServiceProcess] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Chain":
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._running:  # all at once; each is then waited for
            each.ask_to_stop()
        self._stack.close()

    def start(self, *services: ServiceProcess) -> None:
        """Start these."""
        for service in services:
            self._stack.callback(service.stop)
            service.start()
            self._running.append(service)

    def replace(self, service: ServiceProcess, by: ServiceProcess) -> None:
        """Stop one and start the other in its place."""
        service.stop()
        self._running.remove(service)
        self.start(by)

    def check(self) -> None:
        """Raises: ServiceDied for one that has ended."""
        for service in self._running:
            service.check()

    @property
    def sources(self) -> Sequence[Source]:
        """Who of them has connections to the shared database."""
        old = [Source(name, service.address, is_worker=False) for name, service in self.old.items()]
        new = [("bridge", self.bridge), ("own", self.own), ("own", self.alone)]
        workers = [Source(name, each.address, is_worker=True) for name, each in new if each in self._running]
        return [*old, *workers]
