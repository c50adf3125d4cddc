"""Simulations in which nothing depends on how fast this machine is."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from headrace import turns

Patch = tuple[Any, str, Any]
"""A module, a name in it, and what it means meanwhile."""


@contextmanager
def timeless(more: Sequence[Patch] = ()) -> Iterator[None]:
    """No work takes time, so that a busy machine tells the same stories; nothing is logged meanwhile."""
    instead: list[Patch] = [(time, "perf_counter", lambda: 0.0), (turns, "TURN_S", float("inf")), *more]
    kept = [(module, name, getattr(module, name)) for module, name, _ in instead]
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for module, name, value in instead:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
        logging.disable(level)
