"""headrace: business events folded into local tables, exactly once, served over HTTP.

    App, Event, Correction, Topic, Table, Stream, Position, Settings: what a service is written with
    Client, SyncClient: for whoever asks a service over HTTP; they need the extra headrace[client]
    errors:   everything that can go wrong, as one tree

The map of the package is in ARCHITECTURE.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace import errors
from headrace.app import App
from headrace.errors import HeadraceError
from headrace.events.event import Correction, Event
from headrace.events.position import Position, TopicPartition
from headrace.events.token import Token
from headrace.flow.agent import Agent
from headrace.flow.policy import DeadLetter, Retry, Stop
from headrace.flow.sending import Sent
from headrace.flow.stream import Delivery, Stream
from headrace.flow.topic import Topic
from headrace.settings import Settings
from headrace.tables.globaltable import GlobalTable
from headrace.tables.table import Table

if TYPE_CHECKING:
    from headrace.client.client import Client as Client
    from headrace.client.session import Session as Session
    from headrace.client.sync import SyncClient as SyncClient

# Not in __all__: they are imported when they are asked for, because workers do without httpx.
_OF_CLIENTS = {
    "Client": "headrace.client.client",
    "Session": "headrace.client.session",
    "SyncClient": "headrace.client.sync",
}

__all__ = [
    "Agent",
    "App",
    "Correction",
    "DeadLetter",
    "Delivery",
    "Event",
    "GlobalTable",
    "HeadraceError",
    "Position",
    "Retry",
    "Sent",
    "Settings",
    "Stop",
    "Stream",
    "Table",
    "Token",
    "Topic",
    "TopicPartition",
    "errors",
]


def __getattr__(name: str) -> Any:
    """What is imported only when it is asked for."""
    if name not in _OF_CLIENTS:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    try:
        return getattr(import_module(_OF_CLIENTS[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        hint = f"headrace.{name} needs httpx: install headrace with its extra, headrace[client]"
        raise ModuleNotFoundError(hint, name="httpx") from error
