"""Connections to brokers by node, opened when first needed."""

import asyncio
import logging
import random
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    IncompatibleBrokerVersion,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.coordination import FindCoordinatorRequest

from headrace.errors import LogError, Unavailable
from headrace.log.kafka.codes import COORDINATOR_MOVED, Code, refusal
from headrace.log.kafka.metadata import Metadata, MetadataRequest, read_metadata
from headrace.vitals import Vital

logger = logging.getLogger(__name__)

_Place = tuple[str, int]
_CLOSE_TIMEOUT_S = 1.0
_REFUSED = (SaslAuthenticationFailed, UnsupportedSaslMechanismError, IllegalSaslStateError)
_UNSUPPORTED = (IncompatibleBrokerVersion, NotImplementedError)

GROUP, TRANSACTION = 0, 1
"""Kinds of coordinator."""


class _Line:
    """One connection, and how many wait for answers on it."""

    def __init__(self, connection: AIOKafkaConnection) -> None:
        self.connection = connection
        self._waiting = 0
        self._is_retired = False

    async def ask(self, request: Any) -> Any:
        """The answer to this request."""
        self._waiting += 1
        try:
            return await self.connection.send(request)
        finally:
            self._waiting -= 1
            if self._is_retired:
                self.retire()

    def retire(self) -> bool:
        """Close it as soon as nobody waits for an answer; whether somebody still does."""
        self._is_retired = True
        if not self._waiting:
            self.connection.close()
        return self._waiting > 0


class Connections:
    """Requests to the nodes of one cluster.

    Long polls hold up whatever follows them on the same connection, so readers and the administration
    have a set of their own each; writers share some (`lanes`).
    """

    def __init__(
        self,
        address: str,
        security: Mapping[str, Any],
        *,
        client_id: str,
        timeout_s: float,
        contact: Vital | None = None,
    ) -> None:
        self._contact = contact
        """Shows whenever a broker answers, whichever."""
        self._bootstrap = [_host_and_port(part) for part in address.split(",") if part.strip()]
        self._options = {**security, "client_id": client_id, "request_timeout_ms": int(timeout_s * 1000)}
        self._brokers: Mapping[int, _Place] = {}
        self._open: dict[_Place, _Line] = {}
        self._retired: set[_Line] = set()
        self._opening: dict[_Place, asyncio.Lock] = {}
        self._closed = asyncio.Event()

    async def metadata(self, topics: Sequence[str] | None = ()) -> Metadata:
        """The cluster now, with these topics (None: all of them). Raises: Unavailable, LogError."""
        failure = "none is known"
        for place in self._candidates():
            try:
                metadata = read_metadata(await self._ask(place, MetadataRequest(topics)))
            except Unavailable as error:
                failure = error.what
                continue
            if not metadata.brokers:  # one that the controller has not heard of for a while
                failure = "it knows of no broker that takes part"
                continue
            self._brokers = metadata.brokers
            return metadata
        raise Unavailable(f"no broker of {self._addresses()} answers: {failure}")

    async def send(self, node: int, request: Any) -> Any:
        """The answer of one node.

        Cancel: the request may have been carried out, and its connection takes no more of them.
        Raises: Unavailable when the node is not known, not reached or silent; LogError when it refuses
        this client or this protocol.
        """
        place = self._brokers.get(node)
        if place is None:
            raise Unavailable(f"node {node} is not part of the cluster")
        return await self._ask(place, request)

    async def connect(self, node: int) -> None:
        """Make sure that a connection to the node stands. Raises: as `send`."""
        place = self._brokers.get(node)
        if place is None:
            raise Unavailable(f"node {node} is not part of the cluster")
        await self._connection(place)

    async def coordinator(self, kind: int, key: str) -> int:
        """The node that coordinates a group or a transactional id. Raises: Unavailable, LogError."""
        if not self._brokers:
            await self.metadata()
        node = random.choice(list(self._brokers))
        try:
            response = await self.send(node, FindCoordinatorRequest(key, kind))
        except Unavailable:
            await self.metadata()
            raise
        if response.error_code in COORDINATOR_MOVED:
            raise Unavailable(f"the coordinator of {key} is not available yet")
        if response.error_code != Code.NONE:
            raise refusal(f"the coordinator of {key} cannot be found", response.error_code)
        node = int(response.coordinator_id)
        if node not in self._brokers:
            await self.metadata()
        return node

    async def close(self) -> None:
        """Close all of them, waiting a second at most."""
        self._closed.set()
        lines = [*self._open.values(), *self._retired]
        closing = [closed for line in lines if (closed := line.connection.close()) is not None]
        self._open.clear()
        self._retired.clear()
        if closing:
            await asyncio.wait(closing, timeout=_CLOSE_TIMEOUT_S)

    def _candidates(self) -> list[_Place]:
        known = list(self._brokers.values())
        random.shuffle(known)
        return known + [place for place in self._bootstrap if place not in known]

    def _addresses(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self._bootstrap)

    async def _ask(self, place: _Place, request: Any) -> Any:
        line = await self._connection(place)
        try:
            answer = await line.ask(request)
        except _UNSUPPORTED as error:
            raise _too_old(place, error) from error
        except (TimeoutError, asyncio.CancelledError) as error:
            self._retire(place, line)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise Unavailable(f"broker {place[0]}:{place[1]} did not answer in time") from error
        except (KafkaError, OSError) as error:
            raise Unavailable(f"connection to broker {place[0]}:{place[1]} lost: {error}") from error
        if self._contact is not None:
            self._contact.beat()
        return answer

    def _retire(self, place: _Place, line: "_Line") -> None:
        """Send nothing more over a connection that owes an answer: others would wait behind it.

        Answers come in order, and one that is missing may mean that none will ever come. Who waits for
        one now still may; the last of them closes it.
        """
        if self._open.get(place) is line:
            del self._open[place]
        self._retired = {each for each in (*self._retired, line) if each.retire()}

    async def _connection(self, place: _Place) -> "_Line":
        async with self._opening.setdefault(place, asyncio.Lock()):
            line = self._open.get(place)
            if line is not None and line.connection.connected():
                return line
            if self._closed.is_set():
                raise Unavailable("the connections of this owner are closed")
            connection = await self._connect(place)
            if self._closed.is_set():
                connection.close()
                raise Unavailable("the connections of this owner are closed")
            self._open[place] = _Line(connection)
            return self._open[place]

    async def _connect(self, place: _Place) -> AIOKafkaConnection:
        host, port = place
        try:
            return await create_conn(host, port, **self._options)
        except _REFUSED as error:
            hint = "Check HEADRACE_KAFKA_SASL, HEADRACE_KAFKA_USERNAME and HEADRACE_KAFKA_PASSWORD."
            raise LogError(f"broker {host}:{port} refuses this user: {error}", hint=hint) from error
        except ssl.SSLCertVerificationError as error:
            hint = "Check HEADRACE_KAFKA_CA_FILE and the host name in HEADRACE_LOG."
            raise LogError(f"the certificate of {host}:{port} is not trusted: {error}", hint=hint) from error
        except _UNSUPPORTED as error:
            raise _too_old(place, error) from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"no connection to broker {host}:{port}: {error!r}") from error


def _too_old(place: _Place, error: Exception) -> LogError:
    hint = "headrace needs brokers of Kafka 3.1 or newer."
    return LogError(f"broker {place[0]}:{place[1]} lacks a request: {error}", hint=hint)


def _host_and_port(text: str) -> _Place:
    host, _, port = text.strip().rpartition(":")
    return (host.strip("[]"), int(port)) if host else (port.strip("[]"), 9092)
