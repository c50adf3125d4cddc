"""A real Apache Kafka for tests: one KRaft node from its Maven artifacts, in a folder of its own."""

import base64
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.testing.kafka_node import DEFAULT_LIB, VERSION, BrokerFailed, KafkaNode, run

__all__ = ["DEFAULT_LIB", "PASSWORD", "USERNAME", "VERSION", "BrokerFailed", "KafkaBroker"]

USERNAME, PASSWORD = "headrace", "only-for-tests"

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


class KafkaBroker(KafkaNode):
    """One broker with fresh data. `with KafkaBroker() as broker: ... broker.address`.

    It keeps records however old their timestamps say they are.

    With `sasl_tls` clients need TLS (trusting `ca_file`) and SCRAM-SHA-512 as `USERNAME` with
    `PASSWORD`. A `transaction_version` below the newest makes it end transactions as older brokers do.
    """

    def __init__(
        self, *, lib: Path = DEFAULT_LIB, sasl_tls: bool = False, transaction_version: int | None = None
    ) -> None:
        super().__init__(lib=lib)
        self._transaction_version = transaction_version
        self._is_secured = sasl_tls

    @property
    def ca_file(self) -> Path:
        """The certificate that clients must trust, in `sasl_tls` mode."""
        return self.folder / "ca.pem"

    def start(self) -> None:
        """Start and wait until it takes connections. Raises: BrokerFailed."""
        if not self.is_formatted:
            self._prepare()
        self.restart()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self) -> None:
        if self._is_secured:
            self._make_certificate()
        text = _COMMON + (_SASL_TLS if self._is_secured else _PLAINTEXT)
        user = f"SCRAM-SHA-512=[name={USERNAME},password={PASSWORD}]"
        options = ["--add-scram", user] if self._is_secured else []
        if self._transaction_version is not None:
            options += ["--feature", f"transaction.version={self._transaction_version}"]
        self.format(text.format(folder=self.folder, jaas=_JAAS, **self.ports), fresh_cluster_id(), *options)

    def _make_certificate(self) -> None:
        """A self-signed certificate for 127.0.0.1, as its own authority."""
        key, certificate = self.folder / "key.pem", self.ca_file
        request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=headrace test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        run([*request, *names, "-keyout", str(key), "-out", str(certificate)])
        (self.folder / "keystore.pem").write_text(key.read_text() + certificate.read_text())


def fresh_cluster_id() -> str:
    """An id for a cluster that is about to be made."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
