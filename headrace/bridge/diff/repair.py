"""Mends rows of the database, each by a statement that runs only at the position that was compared."""

import asyncio
import logging
from collections.abc import Sequence
from itertools import groupby

from headrace.bridge.diff.comparing import Comparison
from headrace.bridge.session import Session
from headrace.errors import DatabaseUnavailable, NotAtOnePosition
from headrace.events.position import Position, TopicPartition

logger = logging.getLogger(__name__)

_ROWS_PER_TRANSACTION = 50
_LOCK_MS = 50
"""So long a lock is waited for; the applier of the partition waits no longer for ours."""
_TABLE_S = 0.04
"""So long the table may take to come to the position that is locked."""
_ATTEMPTS = 200
_PAUSE_S = 0.02

_LOCK = """SELECT topic, offset_next FROM headrace_positions
    WHERE app = %s AND group_name = %s AND partition = %s FOR UPDATE"""


class Repair:
    """Brings rows of the database to what the table says.

    In one transaction: the applier's position of a partition is locked, so that nothing is applied
    meanwhile; the rows are read; the table is brought to that position by its changelog; rows that
    differ are written; commit. A transaction that would take longer than an instant is undone and
    tried again, and so is one in which the row is doubtful.
    """

    def __init__(self, comparison: Comparison, session: Session, *, is_sqlite: bool) -> None:
        self.repaired = 0
        self._comparison = comparison
        self._session = session
        self._is_sqlite = is_sqlite

    async def run(self, store_keys: Sequence[bytes]) -> Sequence[bytes]:
        """Mend what differs of these rows; the keys of those that could not be brought to one position.

        Raises: as `Comparison.look`.
        """
        left = sorted(set(store_keys), key=self._partition)
        for _ in range(_ATTEMPTS):
            if not left:
                break
            still: list[bytes] = []
            for partition, keys in groupby(left, key=self._partition):
                some = list(keys)
                for start in range(0, len(some), _ROWS_PER_TRANSACTION):
                    still += await self._mend(partition, some[start : start + _ROWS_PER_TRANSACTION])
            left = still
            if left:
                await asyncio.sleep(_PAUSE_S)
        return left

    def _partition(self, store_key: bytes) -> int:
        return self._comparison.partition(store_key)

    async def _mend(self, partition: int, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Mend rows of one partition; the keys that are to be tried again."""
        # Near that position first, without a lock: what is left to read then is an instant's worth.
        await self._comparison.look(keys)
        try:
            return await self._mend_locked(partition, keys)
        except (DatabaseUnavailable, NotAtOnePosition) as error:
            logger.info("Rows of partition %s are mended later: %s", partition, error)
            return keys
        finally:
            await self._session.rollback()

    async def _mend_locked(self, partition: int, keys: Sequence[bytes]) -> Sequence[bytes]:
        comparison, session = self._comparison, self._session
        position = await self._locked(partition)
        if not await comparison.replica.is_before(position, [partition]):
            return keys
        rows = await comparison.sql.rows(session, keys, is_locked=True)
        await comparison.replica.advance(position, [partition], patience_s=_TABLE_S)
        mended = 0
        for difference in comparison.judge(keys, rows, position):
            if difference.wanted is None:
                await comparison.sql.delete(session, difference.store_key)
            else:
                wanted = tuple(difference.wanted.values())
                await comparison.sql.put(session, difference.store_key, wanted)
            mended += 1
        await session.commit()
        self.repaired += mended
        return [key for key in keys if key in comparison.replica.doubtful]

    async def _locked(self, partition: int) -> Position:
        """The applier's position of a partition, which stays so until the transaction ends."""
        place = (*self._comparison.applier, partition)
        if self._is_sqlite:
            # A transaction that may write has the file for itself from its first statement on.
            rows = await self._session.fetch(_LOCK.replace("FOR UPDATE", ""), place)
        else:
            await self._session.fetch("SELECT set_config('lock_timeout', %s, true)", (f"{_LOCK_MS}ms",))
            rows = await self._session.fetch(_LOCK, place)
        return Position({TopicPartition(topic, partition): offset_next for topic, offset_next in rows})
