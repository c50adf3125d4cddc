"""What is found of a table: who, how, and how sure that is."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, Flag


class Touch(Flag):
    """What somebody does, or may do, with a table. None of both: it cannot be told."""

    UNTOLD = 0
    READ = 1
    WRITE = 2

    @property
    def words(self) -> list[str]:
        """As people and scripts read it."""
        return [each.name.lower() for each in (Touch.READ, Touch.WRITE) if each in self and each.name]


class Kind(Enum):
    """Where it was found."""

    SESSION = "session"
    STATEMENT = "statement"
    """One that the server counts (pg_stat_statements)."""
    GRANT = "grant"
    OBJECT = "object"
    """Another object of the database that depends on the table."""
    SOURCE = "source"


class Whose(Enum):
    """Who touches it."""

    OTHER = "other"
    UNCLEAR = "maybe"
    """Not told apart from the app; or it only looks as if it touched the table."""
    APP = "app"
    """The app itself, or its bridge."""


class Verdict(Enum):
    """The answer to the question."""

    NOBODY = "nobody else touches them"
    SOMEBODY = "somebody else touches them, or has the right to"
    UNTOLD = "it could not be told whether somebody else touches them"


@dataclass(frozen=True, slots=True)
class Finding:
    """Somebody who touches a table, or may."""

    table: str
    kind: Kind
    who: str
    touch: Touch
    whose: Whose
    what: str
    """The statement, the right, the object, or the place in a source."""


@dataclass(slots=True)
class Found:
    """All that was found, and what could not be seen."""

    findings: list[Finding] = field(default_factory=list)
    not_seen: list[str] = field(default_factory=list)
    """What this role may not see: somebody may be there."""
    not_there: list[str] = field(default_factory=list)
    """What this database does not tell anybody."""

    def add(self, findings: Iterable[Finding]) -> None:
        """Note these."""
        self.findings += findings

    def in_order(self) -> Sequence[Finding]:
        """Those of others first."""
        sides = list(Whose)
        return sorted(self.findings, key=lambda each: sides.index(each.whose))

    @property
    def verdict(self) -> Verdict:
        """Whether somebody else is there, as far as this was seen."""
        sides = {each.whose for each in self.findings}
        if Whose.OTHER in sides:
            return Verdict.SOMEBODY
        return Verdict.UNTOLD if Whose.UNCLEAR in sides or self.not_seen else Verdict.NOBODY

    def counted(self) -> str:
        """How many there are of each side, in words."""
        sides = Counter(each.whose for each in self.findings)
        other, unclear, app = (sides[each] for each in Whose)
        return f"{other:,} of others, {unclear:,} maybe, {app:,} of the app"


@dataclass(frozen=True, slots=True)
class Own:
    """How the app and its bridge are known."""

    application_names: tuple[str, ...]
    """What their `application_name` begins with."""

    def session(self, application_name: str) -> bool:
        """Whether a session is theirs."""
        return application_name.startswith(self.application_names)
