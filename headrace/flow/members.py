"""Who the workers of an app are, and where each is reached: the topic `<app>.members`."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from headrace.clock import Clock
from headrace.errors import Fenced, HeadraceError, LogError, OffsetOutOfRange
from headrace.events.position import TopicPartition
from headrace.log.port import Append, Chunk, Log, TopicSpec
from headrace.log.stretch import chunks

logger = logging.getLogger(__name__)

_RECORDS_MAX = 1_000
_BYTES_MAX = 1024 * 1024


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker says of itself; its key in the topic is the name of the instance."""

    address: str
    """`host:port` at which the other workers reach its HTTP server."""


class Peer(NamedTuple):
    """The worker that owns a partition."""

    instance: str
    address: str | None
    """None as long as it is not known."""
    is_self: bool


def members_spec(app: str) -> TopicSpec:
    """The topic of the announcements as it must be."""
    return TopicSpec(name=f"{app}.members", partitions=1, is_compacted=True)


class Members:
    """A directory of the app's workers, kept up to date from their announcements.

    A static worker that restarts at another address causes no rebalance, so the group cannot tell;
    and it says nothing of who is alive: that is the group's.
    """

    def __init__(self, app: str, log: Log, clock: Clock, *, retry_s: float) -> None:
        self.is_current = asyncio.Event()
        """Set once everything has been read that was announced before."""
        self.changed = asyncio.Event()
        """Set at the next change; a new one takes its place then."""
        self._app = app
        self._log = log
        self._clock = clock
        self._retry_s = retry_s
        self._place = TopicPartition(members_spec(app).name, 0)
        self._addresses: dict[str, str] = {}

    @property
    def addresses(self) -> Mapping[str, str]:
        """Instance to address."""
        return self._addresses

    async def run(self) -> None:
        """Follow the announcements, for ever.

        Raises: what is wrong with the topic itself; when nobody answers it goes on trying.
        """
        while True:
            try:
                await self._read()
            except LogError as error:
                # What lay before the beginning of the log was tombstones: the next reading starts anew.
                if not (error.is_recoverable or isinstance(error, OffsetOutOfRange)):
                    raise
                logger.warning("The members of %s cannot be read now: %s", self._app, error)
                await self._clock.sleep(self._retry_s)

    async def announce(self, instance: str, address: str) -> None:
        """Say where this worker is reached, trying until the log has it.

        Raises: Fenced when another process announces the same instance.
        """
        await self._write(instance, msgspec.json.encode(Announcement(address=address)))

    async def retract(self, instance: str) -> None:
        """Take back what was announced: nobody comes back under this name. Raises: as `announce`."""
        await self._write(instance, None)

    async def retract_within(self, timeout_s: float, instance: str) -> None:
        """Retract, or give up after this long: an address that nobody answers at does no harm."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.retract(instance)
        except (TimeoutError, LogError) as error:
            logger.warning("The address of %s stays announced: %s", instance, error or "no answer in time")

    async def _write(self, instance: str, value: bytes | None) -> None:
        record = (instance.encode(), value, (), int(self._clock.time() * 1000))
        while True:
            try:
                writer = await self._log.writer(f"{self._app}-member-{instance}")
                try:
                    await writer.commit([Append(*self._place, [record])])
                    return
                finally:
                    await writer.close()
            except HeadraceError as error:
                if isinstance(error, Fenced) or not error.is_recoverable:
                    raise
                logger.warning("%s cannot be announced to its peers now: %s", instance, error)
                await self._clock.sleep(self._retry_s)

    async def _read(self) -> None:
        """Read from the beginning; the directory as it was stays until the end of then is reached."""
        held = (await self._log.offsets([self._place]))[self._place]
        found: dict[str, str] = {}
        offset_next = held.start
        reader = await self._log.reader({self._place: offset_next})
        try:
            while True:
                if offset_next >= held.end and self._addresses is not found:
                    self._addresses = found
                    self.is_current.set()
                    self._tell()
                for chunk in await reader.fetch(records_max=_RECORDS_MAX, bytes_max=_BYTES_MAX):
                    _note(found, chunk)
                    offset_next = chunk.offset_next
                if self._addresses is found:
                    self._tell()
        finally:
            await reader.close()

    def _tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


async def announced(log: Log, app: str) -> Mapping[str, str]:
    """Instance to address, as announced by now; also of workers that were killed since."""
    place = TopicPartition(members_spec(app).name, 0)
    if place.topic not in await log.describe([place.topic]):
        return {}
    held = (await log.offsets([place]))[place]
    found: dict[str, str] = {}
    async with aclosing(chunks(log, place, held.start, held.end)) as fetched:
        async for chunk in fetched:
            _note(found, chunk)
    return found


def _note(found: dict[str, str], chunk: Chunk) -> None:
    for key, value, offset in zip(chunk.keys, chunk.values, chunk.offsets, strict=True):
        try:
            instance = (key or b"").decode()
            if value is None:
                found.pop(instance, None)
            else:
                found[instance] = msgspec.json.decode(value, type=Announcement).address
        except (msgspec.MsgspecError, UnicodeError) as error:
            # A foreign record must not end every worker of the app.
            logger.warning("%s offset %s announces nobody: %s", chunk.topic, offset, error)
