"""Every command, registered by being imported; Faust's own come first, so that ours replace them."""

import faust.cli.faust

from headrace.cli import (
    agents,
    completion,
    config,
    dead_letters,
    diff,
    get,
    history,
    new,
    owners,
    refused,
    reset,
    send,
    tables,
    topics,
    verify,
    watch,
    why,
    worker,
)

__all__ = [
    "agents",
    "completion",
    "config",
    "dead_letters",
    "diff",
    "faust",
    "get",
    "history",
    "new",
    "owners",
    "refused",
    "reset",
    "send",
    "tables",
    "topics",
    "verify",
    "watch",
    "why",
    "worker",
]
