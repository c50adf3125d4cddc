"""One Apache Kafka process in a folder of its own: formatted once, started, killed, started again."""

import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from headrace.testing.class_archive import ClassArchive
from headrace.testing.jars import fetch_jars

VERSION = "4.1.1"
DEFAULT_LIB = Path.home() / ".cache" / "headrace" / f"kafka-{VERSION}"

_JAVA_MIN = 17
_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 15.0
_CONNECT_RETRY_S = 0.05
_ARTIFACTS = (
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"),
    ("org.apache.logging.log4j", "log4j-core", "2.24.3"),
)
_LOGGING = """<Configuration status="ERROR">
  <Appenders><Console name="C"><PatternLayout pattern="[%d] %p %m (%c)%n"/></Console></Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="C"/></Root></Loggers>
</Configuration>
"""


class BrokerFailed(Exception):
    """The broker did not start, or a tool it needs failed; the message ends with its output."""


class KafkaNode:
    """A process of Kafka, its folder and its ports; what it is configured to be comes with `format`.

    The jars are downloaded once into `lib`, by Maven.
    """

    def __init__(self, *, lib: Path = DEFAULT_LIB) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-kafka-"))
        client, internal, controller = free_ports(3)
        self.ports = {"client": client, "internal": internal, "controller": controller}
        self.is_formatted = False
        self._lib = lib
        self._process: subprocess.Popen[bytes] | None = None
        self._classes = ClassArchive(lib, self.folder.name)

    @staticmethod
    def unavailable_reason(lib: Path = DEFAULT_LIB) -> str | None:
        """Why no broker can run on this machine; None when one can."""
        java = shutil.which("java")
        if java is None:
            return f"Java {_JAVA_MIN} is not installed"
        told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
        found = re.search(r'version "(\d+)', told)
        if found is None or int(found[1]) < _JAVA_MIN:
            return f"Java {_JAVA_MIN} or newer is needed; found: {told.splitlines()[0] if told else 'none'}"
        if not lib.is_dir() and shutil.which("mvn") is None:
            return f"Maven is not installed and {lib} does not hold Kafka's jars"
        return None

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"127.0.0.1:{self.ports['client']}"

    @property
    def is_running(self) -> bool:
        """Whether the process lives (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    def format(self, properties: str, cluster_id: str, *options: str) -> None:
        """Make its data folder, for these properties. Raises: BrokerFailed."""
        fetch_jars(self._lib, _ARTIFACTS)
        self._properties.write_text(properties)
        (self.folder / "log4j2.xml").write_text(_LOGGING)
        tool = [
            *self._java(*self._classes.used()),
            "kafka.tools.StorageTool",
            "format",
            "-c",
            str(self._properties),
        ]
        run([*tool, f"--cluster-id={cluster_id}", *options])
        self.is_formatted = True

    def launch(self) -> None:
        """Start the process; it takes no connections yet."""
        options = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", *self._classes.used_or_made())
        with self._output.open("ab") as output:
            # A process group of its own: Ctrl-C must not take the broker away before those who use it.
            self._process = subprocess.Popen(
                [*self._java(*options), "kafka.Kafka", str(self._properties)],
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def wait_started(self) -> None:
        """Return once it takes connections. Raises: BrokerFailed."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if not self.is_running or time.monotonic() > deadline:
                self.kill()
                raise BrokerFailed(f"Kafka did not start:\n{self._output.read_text()[-2000:]}")
            time.sleep(_CONNECT_RETRY_S)

    def stop(self) -> None:
        """Shut it down in order, for good: its data are removed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
                self._classes.keep()
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End it at once, as a power cut would; its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._classes.forget()

    def restart(self) -> None:
        """Start it again, on the same ports and data."""
        self.kill()
        self.launch()
        self.wait_started()

    def pause(self) -> None:
        """Stop the process where it stands: connections stay open, nothing is answered."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _output(self) -> Path:
        return self.folder / "kafka.out"

    def _java(self, *options: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.xml'}"
        return ["java", logging, *options, "-cp", f"{self._lib}/*"]

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.ports["client"]), timeout=1.0).close()
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run(command: list[str]) -> None:
    """Run a tool to its end. Raises: BrokerFailed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BrokerFailed(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
