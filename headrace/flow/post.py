"""What the workers of an app share out beside tasks: partitions that one of them at a time looks after."""

from typing import TYPE_CHECKING, Protocol

from headrace.log.port import TopicSpec

if TYPE_CHECKING:
    from headrace.flow.keeper import Begin
    from headrace.flow.worksite import Worksite


class Post(Protocol):
    """Some partitions of a topic, each looked after by one worker, which a keeper keeps at it."""

    @property
    def name(self) -> str:
        """Among the groups of the app."""

    @property
    def changelog(self) -> str:
        """The topic under whose name the partitions are shared out."""

    @property
    def partitions(self) -> int: ...

    @property
    def spec(self) -> TopicSpec:
        """That topic as it must be."""

    def work_at(self, site: "Worksite", partition: int) -> "Begin":
        """Makes what looks after a partition; again after each failure."""
