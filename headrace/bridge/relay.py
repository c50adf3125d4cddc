"""From an outbox to the log: one worker at a time publishes what services have left, exactly once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from headrace.bridge.courier import Courier, Load
from headrace.bridge.database import Database
from headrace.bridge.outbox import Outbox
from headrace.errors import DeclarationError
from headrace.flow.post import Post
from headrace.flow.topic import Topic
from headrace.log.port import TopicSpec

if TYPE_CHECKING:
    from headrace.flow.keeper import Begin
    from headrace.flow.worksite import Worksite


class Declares(Protocol):
    """Where an app declares what its workers share out."""

    app_id: str

    def add_post(self, post: Post) -> None:
        """Register a post. Raises: DeclarationError."""


class App(Protocol):
    """A `headrace.App`, as far as a relay knows it."""

    @property
    def declarations(self) -> Declares: ...


class Relay:
    """Publishes what services leave in the outbox of a database (flow.post.Post).

    One worker of the app at a time does it. The rows of a batch, and which they were, are one
    transaction of the log; after that they are deleted in the database, and not before that is the
    next batch published. `database` is that of the setting unless given.
    """

    def __init__(
        self,
        app: App,
        outboxes: Sequence[Outbox[Any, Any]],
        database: Database | None = None,
        *,
        name: str = "outbox",
    ) -> None:
        if not outboxes:
            raise DeclarationError("a relay has no outbox", hint="Give it the outboxes that it publishes.")
        self.name = name
        self.changelog = f"{app.declarations.app_id}.{name}"
        self.partitions = 1
        self.topics: dict[str, Topic[Any, Any]] = {outbox.topic.name: outbox.topic for outbox in outboxes}
        self.database = database or Database()
        app.declarations.add_post(self)

    @property
    def spec(self) -> TopicSpec:
        """The topic of its cursor."""
        return TopicSpec(name=self.changelog, partitions=1, is_compacted=True)

    def work_at(self, site: "Worksite", partition: int) -> "Begin":
        """Makes what publishes; what a failure has taught outlives it."""
        load, engine = Load(), self.database.engine(site.settings)
        return lambda view: Courier(
            site, view, engine, load, name=self.name, cursor_topic=self.changelog, topics=self.topics
        )
