"""A real Apache Kafka cluster for tests: three nodes, everything replicated to all of them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.testing.kafka_broker import fresh_cluster_id
from headrace.testing.kafka_node import DEFAULT_LIB, KafkaNode

NODES = 3
IN_SYNC_MIN = 2
"""Replicas that must have a record before it is acknowledged: the cluster goes on without one node."""

_PROPERTIES = """process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=CLIENT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{client}
inter.broker.listener.name=CLIENT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENT:PLAINTEXT
log.dirs={folder}/log
default.replication.factor={nodes}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={nodes}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={nodes}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
broker.session.timeout.ms=3000
initial.broker.registration.timeout.ms=180000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=5000
auto.create.topics.enable=false
log.retention.ms=-1
"""


class KafkaCluster:
    """Three brokers with fresh data, each a controller, too; any one of `nodes` may be killed.

    `with KafkaCluster() as cluster: ... cluster.address`. Topics have three replicas unless they are
    created with another number, and a record is acknowledged when two of them have it.
    """

    def __init__(self, *, lib: Path = DEFAULT_LIB) -> None:
        self.nodes = [KafkaNode(lib=lib) for _ in range(NODES)]

    @property
    def address(self) -> str:
        """Hosts and ports for clients, separated by commas."""
        return ",".join(node.address for node in self.nodes)

    def start(self) -> None:
        """Start all nodes and wait until each takes connections. Raises: BrokerFailed."""
        cluster_id = fresh_cluster_id()
        voters = ",".join(
            f"{number}@127.0.0.1:{node.ports['controller']}" for number, node in enumerate(self.nodes, 1)
        )
        with ThreadPoolExecutor(NODES) as pool:
            for done in [
                pool.submit(node.format, _properties(node, number, voters), cluster_id)
                for number, node in enumerate(self.nodes, 1)
            ]:
                done.result()
        # None of them takes connections before two have found each other.
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_started()

    def stop(self) -> None:
        """Shut all of it down, for good: the data are removed."""
        # In order would be slow: the last ones wait for a quorum that is gone.
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.stop()

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


def _properties(node: KafkaNode, number: int, voters: str) -> str:
    return _PROPERTIES.format(
        node=number, voters=voters, folder=node.folder, nodes=NODES, in_sync=IN_SYNC_MIN, **node.ports
    )
