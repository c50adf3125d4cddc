"""A dead letter: an event that was refused, whole, with where it came from and why."""

from dataclasses import dataclass

from headrace.events.envelope import Headers
from headrace.events.position import TopicPartition

DEAD_LETTERS_EXTRA_BYTES = 64 * 1024
"""How much larger than its events the dead-letter topic's record limit is: room for the headers."""
_PREFIX = "headrace-dead-"
_REPLAYED = "headrace-dead-letter"
_FIRST = _PREFIX + "topic"
_REASON_CHARS_MAX = 4_000


def dead_letters_name(app: str) -> str:
    """The topic in which the refused events of an app are."""
    return f"{app}.dead-letters"


def replay_name(app: str, group: str) -> str:
    """The hidden input of a group that brings dead letters back to the agent which refused them."""
    return f"{app}.{group}.replay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A refused event as it lies in the dead-letter topic, and in a replay input."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    """The event's own headers."""
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """The event's own time."""
    group: str
    agent: str
    """Who refused it; empty: nobody could read it, so every agent of the topic."""
    error: str
    """Name of the error's type."""
    reason: str
    at_ms: int
    """When it was refused."""
    replay_of: TopicPartition | None = None
    replay_offset: int = -1
    """In a replay input: the place of the dead letter it was taken from."""

    def to_headers(self) -> Headers:
        """The event's headers, and behind them what became of it."""
        facts = {
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
            "timestamp": str(self.timestamp_ms),
            "group": self.group,
            "agent": self.agent,
            "error": self.error,
            "reason": self.reason[:_REASON_CHARS_MAX],
            "at": str(self.at_ms),
        }
        said = [(_PREFIX + name, fact.encode("utf-8", "backslashreplace")) for name, fact in facts.items()]
        if self.replay_of is not None:
            said.append((_REPLAYED, f"{self.replay_of.partition}:{self.replay_offset}".encode()))
        return (*self.headers, *said)

    @classmethod
    def parse(
        cls, key: bytes | None, value: bytes | None, headers: Headers, *, dead_letters: str = ""
    ) -> "Letter | None":
        """The dead letter behind a record of either topic; None for a record that is none.

        Shape: `dead_letters` is the topic that a replayed record's place belongs to.
        """
        own, facts, replayed = _split(headers)
        try:
            place, offset = _parse_place(dead_letters, replayed)
            return cls(
                key=key,
                value=value,
                headers=own,
                topic=facts["topic"],
                partition=int(facts["partition"]),
                offset=int(facts["offset"]),
                timestamp_ms=int(facts["timestamp"]),
                group=facts["group"],
                agent=facts["agent"],
                error=facts["error"],
                reason=facts["reason"],
                at_ms=int(facts["at"]),
                replay_of=place,
                replay_offset=offset,
            )
        except (KeyError, ValueError):
            return None


def _split(headers: Headers) -> tuple[Headers, dict[str, str], str]:
    """The event's own headers, and what was said behind them.

    An event may carry such headers itself, when somebody puts dead letters back into their topic by
    hand: what counts begins with the last one that names a topic.
    """
    names = [name for name, _ in headers]
    own = len(names) - names[::-1].index(_FIRST) - 1 if _FIRST in names else len(names)
    facts: dict[str, str] = {}
    replayed = ""
    for name, content in headers[own:]:
        if name == _REPLAYED:
            replayed = content.decode("utf-8", "backslashreplace")
        elif name.startswith(_PREFIX):
            facts[name.removeprefix(_PREFIX)] = content.decode("utf-8", "backslashreplace")
    return tuple(headers[:own]), facts, replayed


def _parse_place(topic: str, text: str) -> tuple[TopicPartition | None, int]:
    if not text:
        return None, -1
    partition, _, offset = text.partition(":")
    return TopicPartition(topic, int(partition)), int(offset)
