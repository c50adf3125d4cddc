"""Where a relay is, in the log: the rows of its last batch, in the transaction that published them."""

from contextlib import aclosing
from typing import Any

import msgspec

from headrace.errors import ForkedChangelog
from headrace.events.position import TopicPartition
from headrace.log.port import Log, Outgoing
from headrace.log.stretch import records

KEY = b"cursor"


class Cursor(msgspec.Struct, frozen=True):
    """The ids that were published last. Older ones are deleted; these may not be yet."""

    batch: int
    """Rises with every batch, over all owners."""
    published: tuple[tuple[int, int], ...] = ()
    """Ranges of ids, each from the first up to and with the second."""

    def record(self, time_ms: int) -> Outgoing:
        """As a record of the cursor's topic."""
        return KEY, _encode(self), (), time_ms


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Cursor).decode


async def read_cursor(log: Log, place: TopicPartition) -> Cursor:
    """The cursor as it was written last. Raises: LogError, ForkedChangelog."""
    held = (await log.offsets([place]))[place]
    last = Cursor(0)
    async with aclosing(records(log, place, held.start, held.stable)) as found:
        async for record in found:
            if record.key == KEY:
                last = _checked(record.value or b"", place, record.offset)
    return last


def _checked(raw: bytes, place: TopicPartition, offset: int) -> Cursor:
    where: dict[str, Any] = {"topic": place.topic, "partition": place.partition, "offset": offset}
    try:
        return _decode(raw)
    except msgspec.MsgspecError as error:
        raise ForkedChangelog(f"the cursor of a relay cannot be read: {error}", **where) from error
