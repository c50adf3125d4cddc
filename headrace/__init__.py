"""headrace: business events folded into local tables, exactly once, served over HTTP.

    App, Event, Correction, Topic, Table, Stream, Position, Settings: what a service is written with
    errors:   everything that can go wrong, as one tree

The map of the package is in ARCHITECTURE.md.
"""

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
