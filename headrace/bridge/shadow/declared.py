"""Shadow reads as an app declares them."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from headrace.bridge.database import Database
from headrace.bridge.pin import applier_of
from headrace.bridge.session import Parameters, SqlRow
from headrace.bridge.shadow.comparing import ShadowRun
from headrace.clock import Clock
from headrace.errors import DeclarationError
from headrace.flow.group import Group
from headrace.log.port import Log
from headrace.settings import Settings
from headrace.tables.table import Table

K = TypeVar("K")
V = TypeVar("V")

PATIENCE_S = 30.0
WAITING_MAX = 4_096


class Declares(Protocol):
    """Where shadows are declared."""

    def add_shadow(self, shadow: "Shadow[Any, Any]") -> None:
        """Register a shadow. Raises: DeclarationError."""


class App(Protocol):
    """A `headrace.App`, as far as a shadow knows it."""

    @property
    def declarations(self) -> Declares: ...


class Shadow(Generic[K, V]):
    """Asks the database that is being left the same as readers of a table, at the same position.

    Of reads that are served at the table's path a share (`sample`, 0 to 1) is compared, after they are
    answered. `query` gives the row of a key, `row` makes of it what `value` makes of the table's value;
    the two must be equal. `applier` is the group that keeps the database up to date, as `group` or
    `app/group`; inputs of the table that it does not read say nothing of a position.
    """

    def __init__(
        self,
        app: App,
        table: Table[K, V],
        database: Database | None = None,
        *,
        query: str,
        row: Callable[[SqlRow], Any],
        value: Callable[[V], Any] = lambda value: value,
        key: Callable[[K], Parameters] | None = None,
        applier: str = "applier",
        sample: float = 0.01,
        waiting_max: int = WAITING_MAX,
        patience_s: float = PATIENCE_S,
    ) -> None:
        if not 0.0 < sample <= 1.0:
            raise DeclarationError(
                f"sample={sample} of the shadow of {table.name} is not above 0 and up to 1"
            )
        self.table = table
        self.database = database or Database()
        self.query = query
        self.row = row
        self.value = value
        self.parameters: Callable[[K], Parameters] = key or parameters_of
        self.applier = applier
        self.sample = sample
        self.waiting_max = waiting_max
        """So many comparisons wait at a time; what is sampled beyond that is dropped and counted."""
        self.patience_s = patience_s
        """How long one waits for both sides to be seen at one position."""
        app.declarations.add_shadow(self)
        table.is_watched = True

    def of_run(
        self,
        app: str,
        settings: Settings,
        *,
        log: Log,
        groups: Mapping[str, Group],
        topic_ids: Mapping[str, str],
        clock: Clock,
    ) -> ShadowRun:
        """The shadow in one run of its app. Raises: SettingsError, DeclarationError."""
        group = groups[self.table.group]
        applier = applier_of(self.applier, app)
        if applier == (app, group.name):
            raise DeclarationError(
                f"the shadow of {self.table.name} names the table's own group as its applier",
                hint="Name the group of the bridge.Applier: applier=applier.group.",
            )
        return ShadowRun(
            self,
            engine=self.database.engine(settings),
            applier=applier,
            inputs={name: topic_ids[name] for name in group.inputs},
            log=log,
            clock=clock,
        )


def parameters_of(key: Any) -> Parameters:
    """The parameters of a query for a key: the parts of a tuple, or the key itself."""
    return key if isinstance(key, tuple) else (key,)
