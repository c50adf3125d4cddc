"""Every command, registered by being imported; Faust's own come first, so that ours replace them."""

import faust.cli.faust

from headrace.cli import agents, config, get, send, tables, topics, verify, worker

__all__ = ["agents", "config", "faust", "get", "send", "tables", "topics", "verify", "worker"]
