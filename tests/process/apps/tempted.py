"""A service that reaches for a database, in the way that TEMPTATION says."""

import os
import sqlite3

import headrace
from headrace import bridge

app = headrace.App("tempted")
told: headrace.Topic[str, bytes] = app.topic("tempted.told", key_type=str, value_type=bytes, partitions=1)
names: headrace.Table[str, int] = app.Table("names", key_type=str, value_type=int, default=int)
app.serve(names, "/names")
TEMPTATION = os.environ.get("TEMPTATION", "")

if TEMPTATION == "import":
    import psycopg  # noqa: F401
if TEMPTATION == "applier":
    applier = bridge.Applier(app, group="database")

    @applier.agent(told)
    async def keep(events: headrace.Stream[bytes]) -> None:
        """Never reached."""
        async for _ in events:
            applier.execute("SELECT 1")


@app.agent(told)
async def tell(events: headrace.Stream[bytes]) -> None:
    """Count, and reach for a database on the way."""
    async for delivery in events.events():
        if delivery.value == b"lazily":
            import asyncpg  # type: ignore[import-not-found]  # noqa: F401
        if delivery.value == b"file":
            sqlite3.connect(":memory:").close()
        names[delivery.key] += 1
