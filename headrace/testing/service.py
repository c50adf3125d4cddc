"""One app under test: its tables, its HTTP, its dead letters."""

from typing import TYPE_CHECKING, Any, TypeVar, overload

from headrace.app import App
from headrace.errors import DeclarationError
from headrace.flow.deadletter import Letter, dead_letters_name
from headrace.flow.group import changelog_name
from headrace.tables.table import Table
from headrace.testing.rows import TableRows
from headrace.testing.worker import Worker
from headrace.testing.world import World

if TYPE_CHECKING:
    import httpx

    from headrace.testing.client import Doors, WorkerClient

K = TypeVar("K")
V = TypeVar("V")


class AppHarness:
    """One app of a harness: its tables, its HTTP, its dead letters."""

    def __init__(self, app: App, world: World) -> None:
        self.app = app
        self._world = world
        self._clients: dict[int, WorkerClient] = {}
        self._doors: Doors | None = None

    @property
    def workers(self) -> list[Worker]:
        """Its workers, in the order in which they joined."""
        return self._world.workers[self.app]

    @overload
    def table(self, table: Table[K, V]) -> TableRows[K, V]: ...
    @overload
    def table(self, table: str) -> TableRows[Any, Any]: ...
    def table(self, table: Any) -> TableRows[Any, Any]:
        """The committed rows of a table, by name or declaration."""
        declared = self.app.declarations.tables
        name = table if isinstance(table, str) else table.name
        if name not in declared or (table is not name and declared[name] is not table):
            raise DeclarationError(
                f"table {name} is not declared on app {self.app.declarations.app_id}",
                hint="With several apps write h[app].table(...).",
            )
        changelog = changelog_name(self.app.declarations.app_id, declared[name].group)
        return TableRows(
            declared[name],
            lambda: [worker.runtime for worker in self.workers if worker.is_running],
            lambda: self._world.journal.topics[changelog].info.partitions,
        )

    @property
    def http(self) -> "httpx.AsyncClient":
        """A client of the first worker, without a socket; a request returns when the world is quiet."""
        return self.http_of(0)

    def http_of(self, worker: int) -> "httpx.AsyncClient":
        """A client of one worker; what another worker owns is asked of it, as in production."""
        if worker not in self._clients:
            # Loaded where it is asked for: httpx comes with the extra `testing`.
            from headrace.testing.client import Doors, WorkerClient

            self._doors = self._doors or Doors(lambda: self.workers)
            self._clients[worker] = WorkerClient(self.workers[worker], self._doors, self._world.quiet)
        return self._clients[worker].client

    def dead_letters(self) -> list[Letter]:
        """What the app's agents refused, partition after partition, with bytes and reason."""
        found = []
        for place, records in sorted(self._world.journal.records.items()):
            if place.topic == dead_letters_name(self.app.declarations.app_id):
                for record in records:
                    letter = Letter.parse(record.key, record.value, record.headers)
                    assert letter is not None, f"the record at {place}, {record.offset} is no dead letter"
                    found.append(letter)
        return found

    async def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            await client.client.aclose()
