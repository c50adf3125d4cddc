"""A real Apache Kafka for tests: one KRaft node from its Maven artifacts, in a folder of its own."""

import base64
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.testing.jars import fetch_jars

VERSION = "4.1.1"
DEFAULT_LIB = Path.home() / ".cache" / "headrace" / f"kafka-{VERSION}"
USERNAME, PASSWORD = "headrace", "only-for-tests"

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
_COMMON = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs={folder}/log
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
log.retention.ms=-1
"""
_PLAINTEXT = """listeners=CLIENT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{client}
inter.broker.listener.name=CLIENT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENT:PLAINTEXT
"""
_SASL_TLS = """listeners=CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal}
inter.broker.listener.name=INTERNAL
listener.security.protocol.map=CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,CLIENT:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.client.scram-sha-512.sasl.jaas.config={jaas}
listener.name.client.ssl.keystore.type=PEM
listener.name.client.ssl.keystore.location={folder}/keystore.pem
"""
_JAAS = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class BrokerFailed(Exception):
    """The broker did not start, or a tool it needs failed; the message ends with its output."""


class KafkaBroker:
    """One broker with fresh data. `with KafkaBroker() as broker: ... broker.address`.

    It keeps records however old their timestamps say they are.

    The jars are downloaded once into `lib`, by Maven. With `sasl_tls` clients need TLS (trusting
    `ca_file`) and SCRAM-SHA-512 as `USERNAME` with `PASSWORD`.
    """

    def __init__(self, *, lib: Path = DEFAULT_LIB, sasl_tls: bool = False) -> None:
        self._lib = lib
        self._is_secured = sasl_tls
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-kafka-"))
        client, internal, self._controller_port = _free_ports(3)
        self._ports = {"client": client, "internal": internal, "controller": self._controller_port}
        self._process: subprocess.Popen[bytes] | None = None
        self._is_formatted = False

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
        return f"127.0.0.1:{self._ports['client']}"

    @property
    def ca_file(self) -> Path:
        """The certificate that clients must trust, in `sasl_tls` mode."""
        return self._folder / "ca.pem"

    @property
    def is_running(self) -> bool:
        """Whether the process lives (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until it takes connections. Raises: BrokerFailed."""
        if not self._is_formatted:
            self._prepare()
        command = [*self._java("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC"), "kafka.Kafka", self._properties]
        with self._output.open("ab") as output:
            # A process group of its own: Ctrl-C must not take the broker away before those who use it.
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, process_group=0
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
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
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """End it at once, as a power cut would; its data stay for `restart`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start it again, on the same ports and data."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop the process where it stands: connections stay open, nothing is answered."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _properties(self) -> str:
        return str(self._folder / "server.properties")

    @property
    def _output(self) -> Path:
        return self._folder / "kafka.out"

    def _java(self, *options: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self._folder / 'log4j2.xml'}"
        return ["java", logging, *options, "-cp", f"{self._lib}/*"]

    def _prepare(self) -> None:
        fetch_jars(self._lib, _ARTIFACTS)
        listeners = _PLAINTEXT
        if self._is_secured:
            self._make_certificate()
            listeners = _SASL_TLS
        text = (_COMMON + listeners).format(folder=self._folder, jaas=_JAAS, **self._ports)
        Path(self._properties).write_text(text)
        (self._folder / "log4j2.xml").write_text(_LOGGING)
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        tool = [*self._java(), "kafka.tools.StorageTool", "format", "-c", self._properties]
        user = f"SCRAM-SHA-512=[name={USERNAME},password={PASSWORD}]"
        _run([*tool, f"--cluster-id={cluster_id}", *(["--add-scram", user] if self._is_secured else [])])
        self._is_formatted = True

    def _make_certificate(self) -> None:
        """A self-signed certificate for 127.0.0.1, as its own authority."""
        key, certificate = self._folder / "key.pem", self.ca_file
        request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=headrace test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        _run([*request, *names, "-keyout", str(key), "-out", str(certificate)])
        (self._folder / "keystore.pem").write_text(key.read_text() + certificate.read_text())

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._ports["client"]), timeout=1.0).close()
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BrokerFailed(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
