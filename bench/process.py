"""A measured program: a process of its own that says in lines of JSON when it began and what it summed up."""

import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_TIMEOUT_S = 20.0
_TAIL_CHARACTERS = 3_000


class ProgramFailed(Exception):
    """A measured program ended early or said nothing in time; the message ends with its output."""


class Program:
    """A child process. `with Program([...], log=path) as program: program.told("first", timeout_s=60)`."""

    def __init__(
        self, command: Sequence[str], *, log: Path, folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = list(command)
        self._log = log
        self._folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self._said: dict[str, Any] = {}
        self._lines: Queue[dict[str, Any] | None] = Queue()

    def __enter__(self) -> Self:
        self._output = self._log.open("wb")
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {self._command[0]}", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._output.close()

    def told(self, name: str, *, timeout_s: float) -> Any:
        """What the program said under this name, waiting for it. Raises: ProgramFailed."""
        while name not in self._said:
            try:
                line = self._lines.get(timeout=timeout_s)
            except Empty:
                raise self.failure(f"said no {name!r} within {timeout_s:g} s") from None
            if line is None:
                raise self.failure(f"ended before it said {name!r}")
            self._said.update(line)
        return self._said[name]

    def ask(self) -> None:
        """Let a program go on that waits for a line."""
        if self._process.stdin is not None:
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()

    def check_running(self) -> None:
        """Raises: ProgramFailed when the process has ended."""
        if self._process.poll() is not None:
            raise self.failure(f"ended with status {self._process.returncode}")

    def cpu_seconds(self) -> float:
        """CPU seconds of the process since it started, all threads, in ticks of the kernel."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mib(self) -> float:
        """What the process holds in memory, in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        (kib,) = (line.split()[1] for line in status if line.startswith("VmRSS:"))
        return int(kib) / 1024

    def failure(self, what: str) -> ProgramFailed:
        """An error that ends with what the program printed last."""
        tail = self._log.read_text(errors="replace")[-_TAIL_CHARACTERS:]
        return ProgramFailed(f"{' '.join(self._command[:4])} ... {what}\n{tail}")

    def _read(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        with output:
            for line in output:
                if line.startswith(b"{"):
                    self._lines.put(json.loads(line))
                else:
                    self._output.write(line)
                    self._output.flush()
        self._lines.put(None)
