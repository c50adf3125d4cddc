"""Answers that have expired are looked for now and then, so that they take no room for ever."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import NoReturn

from headrace.clock import Clock
from headrace.flow.requests.answer import is_expired
from headrace.tables.store import Store
from headrace.turns import Turns

EVERY_S = 3_600.0
_KEYS_MAX = 200
_FIRST_KEY = b"\1"

Forget = Callable[[Sequence[bytes]], Awaitable[object]]
"""Deletes what is expired still of some keys, in the log and in the store."""


async def forget_now_and_then(
    store: Store, forget: Forget, now_ms: Callable[[], int], clock: Clock
) -> NoReturn:
    """Look at once and then every hour, for as long as the store is open. Raises: StoreCorrupt."""
    while True:
        start = _FIRST_KEY
        while keys := await _expired(store, start, now_ms()):
            await forget(keys)
            start = keys[-1] + b"\0"
        await clock.sleep(EVERY_S)


async def _expired(store: Store, start: bytes, now_ms: int) -> list[bytes]:
    """Some expired keys from here on, looked for in slices."""
    found = list[bytes]()
    snapshot = store.snapshot()
    try:
        rows = snapshot.scan(start, None)
        turns = Turns()
        while part := list(islice(rows, 32)):
            found += [key for key, raw in part if is_expired(raw, now_ms)]
            if len(found) >= _KEYS_MAX:
                break
            if turns.is_due:
                await turns.give()
    finally:
        snapshot.close()
    return found
