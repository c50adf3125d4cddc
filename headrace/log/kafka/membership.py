"""A worker's place in the consumer group of its app: joined, kept alive, and told when it changes.

Written over aiokafka's connection and requests instead of its consumer: the group carries
membership only, there is nothing to fetch or poll, and the assignor needs to know what each worker
has on disk.
"""

import asyncio
import logging
from typing import Any

import msgspec
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from aiokafka.protocol.types import Int16, Int32, Schema, String

from headrace.errors import LogError, Unavailable
from headrace.log.assignor import Claim, assign, claim, owners
from headrace.log.kafka.codes import COORDINATOR_MOVED, Code, refusal
from headrace.log.kafka.connections import GROUP, Connections
from headrace.log.kafka.patience import patience
from headrace.log.port import Assignment, Member
from headrace.settings import Settings
from headrace.vitals import Kind, Vitals

logger = logging.getLogger(__name__)

_PROTOCOL_TYPE = "consumer"
"""Lag tools list groups of this type only, and read its member metadata."""
_PROTOCOL = "headrace"
_UNKNOWN_MEMBER = frozenset({Code.UNKNOWN_MEMBER_ID, Code.ILLEGAL_GENERATION})
_HEARTBEATS_PER_SESSION = 3
_HEARTBEAT_MAX_S = 1.0
"""By its heartbeat a worker learns of a rebalance: nobody gets a partition before the slowest has."""
_RETRY_S = 0.1
_LEAVE_TIMEOUT_S = 1.0


class _HeartbeatResponseV3(Response):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 12
    API_VERSION = 3
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16))


class _HeartbeatRequestV3(RequestStruct):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 12
    API_VERSION = 3
    RESPONSE_TYPE = _HeartbeatResponseV3
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("generation_id", Int32),
        ("member_id", String("utf-8")),
        ("group_instance_id", String("utf-8")),
    )


class _Heartbeat(Request[_HeartbeatRequestV3]):  # type: ignore[misc]  # aiokafka carries no types
    """Version 3: the first that tells a worker that another one has taken its instance name."""

    API_KEY = 12

    def __init__(self, group: str, generation: int, member_id: str, instance: str | None) -> None:
        self._fields = (group, generation, member_id, instance)

    def build(self, request_struct_class: type[_HeartbeatRequestV3]) -> _HeartbeatRequestV3:
        return request_struct_class(*self._fields)


class KafkaMembership:
    """One worker in the group of its app; it owns its connections.

    To the group a static member is its instance name: a restart within the session time-out changes
    nothing for the others.
    """

    def __init__(self, connections: Connections, settings: Settings, member: Member, vitals: Vitals) -> None:
        self._vitals = vitals
        self._vital = vitals.add(Kind.MEMBERSHIP, f"the place in group {member.app}")
        self._is_closing = False
        self._connections = connections
        self._member = member
        self._group = member.app
        self._instance = f"{member.app}-{member.instance}" if member.is_static else None
        self._session_timeout_s = settings.session_timeout_s
        self._timeout_s = settings.request_timeout_s
        self._coordinator: int | None = None
        self._member_id = ""
        self._generation = -1
        self._assignment: Assignment | None = None
        self._is_settled = asyncio.Event()
        self._must_rejoin = asyncio.Event()
        self._has_changed = asyncio.Event()
        self._failure: BaseException | None = None
        self._silent_since: float | None = None
        self._keeper: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to join."""
        self._keeper = asyncio.create_task(self._keep(), name="headrace-kafka-membership")
        self._keeper.add_done_callback(self._note_end)
        self._vital.expect()

    async def next(self, after: int) -> Assignment:
        """See `Membership.next`."""
        while True:
            changed = self._has_changed
            self._raise_failure()
            if self._assignment is not None and self._assignment.generation > after:
                return self._assignment
            await changed.wait()

    async def confirm(self) -> Assignment:
        """See `Membership.confirm`."""
        async with patience(self._timeout_s, "the group did not confirm its assignment"):
            while True:
                self._raise_failure()
                await self._is_settled.wait()
                self._raise_failure()
                generation, assignment = self._generation, self._assignment
                try:
                    await self._heartbeat()
                except Unavailable as error:
                    logger.debug("%s: %s", self._group, error)
                    await asyncio.sleep(_RETRY_S)
                    continue
                if self._is_settled.is_set() and assignment is not None and generation == self._generation:
                    return assignment

    @property
    def identity(self) -> tuple[int, str]:
        """Generation and member id, with which the group lets this worker leave positions."""
        return self._generation, self._member_id

    async def close(self) -> None:
        """See `Membership.close`."""
        self._is_closing = True
        self._vitals.remove(self._vital)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._instance is None and self._member_id and self._coordinator is not None:
            try:
                async with patience(_LEAVE_TIMEOUT_S, "the group did not let this worker go"):
                    request = LeaveGroupRequest(self._group, self._member_id)
                    await self._connections.send(self._coordinator, request)
            except LogError as error:
                logger.debug("%s: %s", self._group, error)
        await self._connections.close()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        now = asyncio.get_running_loop().time()
        if self._silent_since is not None and now - self._silent_since >= self._timeout_s:
            self._silent_since = now
            raise Unavailable(f"the coordinator of group {self._group} is silent")

    async def _keep(self) -> None:
        """Join, stay, and join again whenever the group says so."""
        while True:
            self._vital.beat()
            try:
                if self._coordinator is None:
                    self._coordinator = await self._connections.coordinator(GROUP, self._group)
                if not self._is_settled.is_set():
                    await self._join(self._coordinator)
                await self._stay()
            except Unavailable as error:
                logger.debug("%s: %s", self._group, error)
                self._fall_silent()
                await asyncio.sleep(_RETRY_S)

    async def _stay(self) -> None:
        """Heartbeats until a rebalance. Raises: Unavailable."""
        pause_s = min(self._session_timeout_s / _HEARTBEATS_PER_SESSION, _HEARTBEAT_MAX_S)
        while self._is_settled.is_set():
            self._silent_since = None
            self._vital.beat()
            try:
                async with asyncio.timeout(pause_s):
                    await self._must_rejoin.wait()
            except TimeoutError:
                await self._heartbeat()

    async def _heartbeat(self) -> None:
        """One heartbeat; what it says of the group is taken note of. Raises: Unavailable, LogError."""
        generation, coordinator = self._generation, self._coordinator
        if coordinator is None:
            raise Unavailable(f"the coordinator of group {self._group} is not known")
        request = _Heartbeat(self._group, generation, self._member_id, self._instance)
        code = (await self._connections.send(coordinator, request)).error_code
        if code == Code.NONE or generation != self._generation:
            return
        if code in COORDINATOR_MOVED:
            raise Unavailable(f"the coordinator of group {self._group} has moved")
        if code in _UNKNOWN_MEMBER:
            self._member_id = ""
        elif code != Code.REBALANCE_IN_PROGRESS:
            raise self._refusal(code)
        self._is_settled.clear()
        self._must_rejoin.set()

    async def _join(self, coordinator: int) -> None:
        """Take part in one rebalance until there is an assignment. Raises: Unavailable, LogError."""
        while True:
            joined = await self._connections.send(coordinator, self._join_request())
            self._vital.beat()
            code = joined.error_code
            if code == Code.MEMBER_ID_REQUIRED:
                self._member_id = joined.member_id
            elif code in _UNKNOWN_MEMBER:
                self._member_id = ""
            elif code in COORDINATOR_MOVED:
                raise Unavailable(f"the coordinator of group {self._group} has moved")
            elif code == Code.REBALANCE_IN_PROGRESS:
                await asyncio.sleep(_RETRY_S)
            elif code != Code.NONE:
                raise self._refusal(code)
            else:
                self._member_id = joined.member_id
                if await self._sync(coordinator, joined):
                    return

    def _join_request(self) -> JoinGroupRequest:
        owned = self._assignment.partitions if self._assignment is not None else {}
        claimed = msgspec.json.encode(claim(self._member, self._generation, owned))
        metadata = ConsumerProtocolMemberMetadata(0, sorted(self._member.partitions), claimed)
        session_ms = int(self._session_timeout_s * 1000)
        protocols = [(_PROTOCOL, metadata.encode())]
        return JoinGroupRequest(
            self._group, session_ms, session_ms, self._member_id, self._instance, _PROTOCOL_TYPE, protocols
        )

    async def _sync(self, coordinator: int, joined: Any) -> bool:
        """Learn, or as leader decide, who owns what; whether the rebalance is over."""
        is_leader = joined.leader_id == joined.member_id
        shares = _decide(joined.members) if is_leader else []
        request = SyncGroupRequest(self._group, joined.generation_id, self._member_id, self._instance, shares)
        answer = await self._connections.send(coordinator, request)
        code = answer.error_code
        if code in _UNKNOWN_MEMBER:
            self._member_id = ""
        elif code in COORDINATOR_MOVED:
            raise Unavailable(f"the coordinator of group {self._group} has moved")
        elif code not in (Code.NONE, Code.REBALANCE_IN_PROGRESS):
            raise self._refusal(code)
        if code != Code.NONE:
            return False
        given = ConsumerProtocolMemberAssignment.decode(answer.member_assignment)
        share = dict(given.assignment)
        partitions = {topic: frozenset(share.get(topic, ())) for topic in self._member.partitions}
        everybody = msgspec.json.decode(given.user_data or b"{}", type=dict[str, dict[int, str]])
        self._settle(Assignment(joined.generation_id, partitions, everybody))
        return True

    def _settle(self, assignment: Assignment) -> None:
        self._generation, self._assignment = assignment.generation, assignment
        self._silent_since = None
        self._must_rejoin.clear()
        self._is_settled.set()
        self._tell()

    def _fall_silent(self) -> None:
        """The assignment stays as it is: whoever takes a task over fences its writer."""
        self._coordinator = None
        if self._silent_since is None:
            self._silent_since = asyncio.get_running_loop().time()
        self._tell()

    def _refusal(self, code: int) -> LogError:
        if code == Code.FENCED_INSTANCE_ID:
            hint = "Give every worker a HEADRACE_INSTANCE of its own."
            return LogError(f"another worker has joined as {self._instance}", hint=hint)
        return refusal(f"group {self._group} does not take this worker", code)

    def _note_end(self, keeper: asyncio.Task[None]) -> None:
        """What ends the membership is raised by whoever waits for it, now or later."""
        if keeper.cancelled():
            what = f"the membership in group {self._group} was"
            # Nobody may go on without a place in the group; an error that is tried again would hide it.
            self._failure = (
                Unavailable(f"{what} closed") if self._is_closing else LogError(f"{what} ended from outside")
            )
        else:
            self._failure = keeper.exception()
        self._is_settled.set()
        self._tell()

    def _tell(self) -> None:
        """Wake everybody who waits for a change; later waiters wait for the next one."""
        self._has_changed.set()
        self._has_changed = asyncio.Event()


def _decide(members: list[tuple[str, str | None, bytes]]) -> list[tuple[str, bytes]]:
    """The assignment of every member, as its leader sends it; each is told who owns what, too."""
    claims = {}
    for member_id, _, metadata in members:
        user_data = ConsumerProtocolMemberMetadata.decode(metadata).user_data
        claims[member_id] = msgspec.json.decode(user_data, type=Claim)
    shares = assign(claims)
    everybody = msgspec.json.encode(owners(claims, shares))
    return [
        (member_id, ConsumerProtocolMemberAssignment(0, sorted(share.items()), everybody).encode())
        for member_id, share in shares.items()
    ]
