"""What a group of errors that come together began with."""

import asyncio

from headrace.errors import HeadraceError


def first_cause(error: BaseException) -> BaseException:
    """What a group of errors began with: a named one before others, any before a cancellation."""
    flat: list[BaseException] = []
    waiting = [error]
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, BaseExceptionGroup):
            waiting.extend(part.exceptions)
        else:
            flat.append(part)
    return min(flat, key=lambda e: (not isinstance(e, HeadraceError), isinstance(e, asyncio.CancelledError)))
