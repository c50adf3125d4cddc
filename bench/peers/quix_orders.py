"""quix_orders.py ADDRESS TOPIC EVENTS APP FOLDER: the job on Quix Streams, exactly once, state in RocksDB.

All other settings are its defaults. After its events it commits, closes, and waits for a line before
it adds up what its store holds.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found]
from rocksdict import AccessType, Options, Rdict

address, topic, events, app_id, folder = sys.argv[1:]
has_begun = False


def add(order: dict[str, Any], state: Any) -> int:
    """Add one order to its article."""
    global has_begun
    if not has_begun:
        has_begun = True
        print(json.dumps({"first": time.monotonic(), "cpu": time.process_time()}), flush=True)
    total: int = state.get("qty", 0) + order["qty"]
    state.set("qty", total)
    return total


def stored_sum() -> int:
    """The sum of all rows in the files of the store."""
    total = 0
    for current in Path(folder).rglob("CURRENT"):
        # Rows only: what Quix Streams keeps about its tables lies in other column families.
        rows = Rdict(str(current.parent), Options(raw_mode=True), None, AccessType.read_only(False))
        total += sum(json.loads(row) for row in rows.values())
        rows.close()
    return total


app = Application(
    broker_address=address,
    consumer_group=app_id,
    auto_offset_reset="earliest",
    processing_guarantee="exactly-once",
    state_dir=folder,
    loglevel="WARNING",
)
app.dataframe(app.topic(topic, value_deserializer="json")).apply(add, stateful=True)
app.run(count=int(events), collect=False)
sys.stdin.readline()
print(json.dumps({"sum": stored_sum()}), flush=True)
