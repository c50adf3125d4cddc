"""How a shared database is left, one step at a time: it lives on the same events until nobody needs it."""

from headrace.bridge.applier import Applier
from headrace.bridge.database import Database
from headrace.bridge.diff.declared import Compared
from headrace.bridge.diff.difference import Difference
from headrace.bridge.outbox import Outbox
from headrace.bridge.relay import Relay
from headrace.bridge.shadow.declared import Shadow
from headrace.bridge.sqltable import SqlTable

__all__ = ["Applier", "Compared", "Database", "Difference", "Outbox", "Relay", "Shadow", "SqlTable"]
