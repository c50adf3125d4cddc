"""How long to keep trying: a time limit that ends as `Unavailable`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.errors import Unavailable


@asynccontextmanager
async def patience(timeout_s: float, what: str) -> AsyncIterator[None]:
    """A time limit whose end is `Unavailable`, naming what did not happen in time."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise Unavailable(f"{what} within {timeout_s:g} s") from error
