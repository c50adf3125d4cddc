"""The coordinator of one transactional id: who holds the id, what the transaction contains, how it ends."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, InitProducerIdRequest

from headrace.errors import CommitUnknown, Fenced, LogError, Unavailable
from headrace.events.position import TopicPartition
from headrace.log.kafka.batches import ProducerState
from headrace.log.kafka.codes import (
    COORDINATOR_MOVED,
    FENCED,
    TRY_AGAIN,
    Code,
    code_name,
    refusal,
    write_error,
)
from headrace.log.kafka.connections import TRANSACTION, Connections
from headrace.log.kafka.patience import patience
from headrace.log.kafka.transactions import FeaturesRequest, Scheme, end_request, scheme_of

logger = logging.getLogger(__name__)

MARKERS_RETRY_S = 0.001
"""The markers of the previous transaction take a few milliseconds; asking again costs little."""
RETRY_S = 0.05
_ABORT_TIMEOUT_S = 1.0
_NOT_YET = COORDINATOR_MOVED | TRY_AGAIN | FENCED | {Code.CONCURRENT_TRANSACTIONS, Code.TRANSACTION_ABORTABLE}
"""The id cannot be taken over at this moment. The coordinator aborts what an older holder left open, and
hands on why that failed: the holder's own end, or another take-over, was quicker."""
_MARKERS_WAIT_S = 0.02
"""Before the markers of the last transaction are written nothing joins a new one. A broker that meets
this while it adds the partitions of a batch itself waits so long before it looks again."""


class Coordinator:
    """One holder's talk with the node that coordinates its id."""

    def __init__(self, connections: Connections, transactional_id: str, timeout_s: float) -> None:
        self._connections = connections
        self._id = transactional_id
        self._timeout_s = timeout_s
        self._node: int | None = None
        self.scheme = Scheme.EPOCH_PER_OWNER
        self.state = ProducerState(-1, -1)
        self._markers_until = 0.0

    @property
    def wants_partitions_first(self) -> bool:
        """Whether partitions are to be added before anything is produced to them.

        Always where all transactions share an epoch. Else producing adds them, which saves a round trip;
        but right behind the last transaction asking until its markers are there is quicker.
        """
        if self.scheme is Scheme.EPOCH_PER_OWNER:
            return True
        return asyncio.get_running_loop().time() < self._markers_until

    async def initialise(self, transaction_timeout_s: float, newest: Scheme) -> None:
        """Fence every older holder and see its transaction ended. Raises: Unavailable, LogError."""
        request = InitProducerIdRequest(self._id, int(transaction_timeout_s * 1000))
        what = f"transactional id {self._id} cannot be initialised"
        async with patience(self._timeout_s, what):
            while True:
                try:
                    response = await self._ask(request)
                    if response.error_code == Code.NONE:
                        features = await self._connections.send(await self._find(), FeaturesRequest())
                        break
                except Unavailable as error:
                    logger.debug("%s: %s", self._id, error)
                    await asyncio.sleep(RETRY_S)
                    continue
                code = response.error_code
                if code not in _NOT_YET:
                    raise refusal(what, code)
                await asyncio.sleep(MARKERS_RETRY_S if code == Code.CONCURRENT_TRANSACTIONS else RETRY_S)
        self.scheme = min(newest, scheme_of(features))
        self.state = ProducerState(response.producer_id, response.producer_epoch)

    async def add(self, places: Sequence[TopicPartition]) -> None:
        """Make these partitions part of the transaction. Raises: Fenced, LogError."""
        by_topic: dict[str, list[int]] = defaultdict(list)
        for topic, partition in places:
            by_topic[topic].append(partition)
        state = self.state
        request = AddPartitionsToTxnRequest(self._id, state.producer_id, state.epoch, list(by_topic.items()))
        while True:
            try:
                response = await self._ask(request)
            except Unavailable as error:
                logger.debug("%s: %s", self._id, error)
                await asyncio.sleep(RETRY_S)
                continue
            codes = {(t, p): code for t, partitions in response.errors for p, code in partitions}
            if not any(codes.values()):
                return
            if any(code in COORDINATOR_MOVED for code in codes.values()):
                self._node = None
            await asyncio.sleep(self._wait_for(codes))

    def _wait_for(self, codes: Mapping[tuple[str, int], int]) -> float:
        """How long to wait before the partitions are added again. Raises: what no waiting cures."""
        wait_s = MARKERS_RETRY_S
        for (topic, partition), code in codes.items():
            if code in (Code.NONE, Code.OPERATION_NOT_ATTEMPTED, Code.CONCURRENT_TRANSACTIONS):
                continue
            if code not in COORDINATOR_MOVED and code not in TRY_AGAIN:
                raise write_error(self._id, TopicPartition(topic, partition), code)
            wait_s = RETRY_S
        return wait_s

    async def commit(self) -> None:
        """End the transaction. An EndTxn without an answer is never sent again.

        It could end a later transaction, where all of an owner's share one epoch. Raises: Unavailable
        when it was not sent; CommitUnknown, Fenced.
        """
        request = self._end_request(is_commit=True)
        was_sent = False
        try:
            async with patience(self._timeout_s, "the commit was not answered"):
                while True:
                    node = await self._find()
                    was_sent = True
                    response = await self._connections.send(node, request)
                    code = response.error_code
                    if code == Code.NONE:
                        break
                    # An answered request is no longer on its way, so that it may be repeated.
                    if code in COORDINATOR_MOVED:
                        self._node = None
                    elif code in FENCED:
                        raise Fenced(f"{self._id}: {code_name(code)}")
                    elif code != Code.CONCURRENT_TRANSACTIONS:
                        raise CommitUnknown(f"{self._id}: {code_name(code)}")
                    await asyncio.sleep(RETRY_S)
        except Unavailable as error:
            if not was_sent:
                raise
            raise CommitUnknown(f"{self._id}: {error.what}") from error
        self._markers_until = asyncio.get_running_loop().time() + _MARKERS_WAIT_S
        if self.scheme is Scheme.EPOCH_PER_TRANSACTION:
            self.state = ProducerState(response.producer_id, response.producer_epoch)

    async def abort(self) -> None:
        """Try to end the transaction, so that readers need not wait for its time-out."""
        try:
            async with patience(_ABORT_TIMEOUT_S, "the abort was not answered"):
                await self._ask(self._end_request(is_commit=False))
        except LogError as error:
            logger.debug("%s: %s", self._id, error)

    def _end_request(self, *, is_commit: bool) -> Any:
        state = self.state
        return end_request(self.scheme, self._id, state.producer_id, state.epoch, is_commit=is_commit)

    async def _ask(self, request: Any) -> Any:
        """The coordinator's answer; it is looked up anew after it moved or fell silent."""
        node = await self._find()
        try:
            response = await self._connections.send(node, request)
        except Unavailable:
            self._node = None
            raise
        if getattr(response, "error_code", Code.NONE) in COORDINATOR_MOVED:
            self._node = None
        return response

    async def _find(self) -> int:
        """The node that coordinates this id, with a connection to it."""
        if self._node is None:
            self._node = await self._connections.coordinator(TRANSACTION, self._id)
        try:
            await self._connections.connect(self._node)
        except Unavailable:
            self._node = None
            raise
        return self._node
