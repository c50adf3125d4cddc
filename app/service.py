"""One service of the demo in a process of its own."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from app.client import Client, NoAnswer

ROOT = Path(__file__).parent.parent
STOP_TIMEOUT_S = 12.0
READY_TIMEOUT_S = 90.0
_TAIL_LINES = 25


class ServiceDied(Exception):
    """A service ended although nobody asked it to."""


class ServiceProcess:
    """A process that answers HTTP: started, watched, stopped; `program` is what follows its settings."""

    def __init__(self, name: str, program: Sequence[str], *, port: int, folder: Path) -> None:
        self.name = name
        self.address = f"127.0.0.1:{port}"
        self.log_path = folder / f"{name}.log"
        self.settings: dict[str, str] = {"HEADRACE_HTTP": self.address}
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._is_asked_to_stop = False

    @property
    def command(self) -> list[str]:
        """What is run, as it could be typed: the settings go by env(1)."""
        return ["env", *(f"{name}={value}" for name, value in self.settings.items()), *self._program]

    def start(self) -> None:
        """Start the process; its output goes to `log_path`."""
        self._is_asked_to_stop = False
        with self.log_path.open("wb") as log:
            # A process group of its own: Ctrl-C reaches the demo alone, which stops the workers in order.
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def check(self) -> None:
        """Raises: ServiceDied, with the end of its log, unless it runs or was asked to stop."""
        if self._process is None or self._is_asked_to_stop or (status := self._process.poll()) is None:
            return
        lines = self.log_path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        tail = "\n".join(f"  {line}" for line in lines)
        raise ServiceDied(f"{self.name} ended with status {status}; {self.log_path} ends with\n{tail}")

    def is_ready(self) -> bool:
        """Whether it answers reads of every partition."""
        try:
            with closing(Client(self.address, timeout_s=5.0)) as client:
                return client.get("/readyz").status == 200
        except NoAnswer:
            return False

    def ask_to_stop(self) -> None:
        """Send SIGTERM, if it still runs."""
        self._is_asked_to_stop = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """See it end, by force if it takes too long."""
        if self._process is None:
            return
        self.ask_to_stop()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Service(ServiceProcess):
    """A worker of one app."""

    def __init__(self, name: str, *, port: int, folder: Path, log_url: str) -> None:
        headrace = Path(sys.executable).with_name("headrace")
        program = [str(headrace), "-A", f"app.{name}", "worker", "-l", "info"]
        super().__init__(name, program, port=port, folder=folder)
        self.settings |= {"HEADRACE_LOG": log_url, "HEADRACE_DATA": str(folder / "data" / name)}


def free_port(preferred: int = 0) -> int:
    """This port of the machine, or another one where it is taken. Raises: NoAnswer."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise NoAnswer("this machine has no free port on 127.0.0.1")


def await_ready(services: Sequence[ServiceProcess], timeout_s: float = READY_TIMEOUT_S) -> None:
    """Return once all of them answer. Raises: NoAnswer, ServiceDied."""
    deadline = time.monotonic() + timeout_s
    for service in services:
        while not service.is_ready():
            service.check()
            if time.monotonic() > deadline:
                raise NoAnswer(f"{service.name} is not ready after {timeout_s:.0f} s; see {service.log_path}")
            time.sleep(0.1)
