"""What a shadow has found: how often both sides agreed, and the rows in which they do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace.events.position import TopicPartition
from headrace.http.metric import SHADOW_READS, SHADOW_WAITING, Sample
from headrace.http.whiteboard.board import ShadowCard, ShadowDifference

KEPT_MAX = 1_000
"""So many keys that differ are kept, each with its last difference."""
SHOWN_MAX = 20
_TEXT_MAX = 500


@dataclass(slots=True)
class Findings:
    """The counts and differences of one shadow in one run."""

    table: str
    agreed: int = 0
    differing: int = 0
    dropped: int = 0
    """Reads that were sampled when as many waited as may."""
    undecided: int = 0
    """The two sides were not seen at one position in time, or the partition was given up."""
    failed: int = 0
    """The database, or a function of the app, refused."""
    waiting: int = 0
    _kept: dict[str, ShadowDifference] = field(default_factory=dict)

    @property
    def compared(self) -> int:
        """Comparisons that came to a result."""
        return self.agreed + self.differing

    def differs(
        self,
        key: str,
        position: Mapping[TopicPartition, int],
        in_table: object,
        in_database: object,
        at_s: float,
    ) -> ShadowDifference:
        """Note a difference, and give it as it is kept."""
        self.differing += 1
        found = ShadowDifference(
            key=key,
            position={
                f"{place.topic}/{place.partition}": offset for place, offset in sorted(position.items())
            },
            in_table=_text(in_table),
            in_database=_text(in_database),
            at_s=at_s,
        )
        self._kept.pop(key, None)
        self._kept[key] = found
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        return found

    @property
    def differences(self) -> Sequence[ShadowDifference]:
        """The last difference of each key, the newest first."""
        return list(reversed(self._kept.values()))

    def card(self, shown_max: int = SHOWN_MAX) -> ShadowCard:
        """All of it as plain data, with the newest differences."""
        return ShadowCard(
            table=self.table,
            compared=self.compared,
            agreed=self.agreed,
            differing=self.differing,
            waiting=self.waiting,
            dropped=self.dropped,
            undecided=self.undecided,
            failed=self.failed,
            differences=tuple(self.differences[:shown_max]),
        )

    def samples(self) -> Sequence[Sample]:
        """The counts for /metrics."""
        counts = {
            "agreed": self.agreed,
            "differing": self.differing,
            "dropped": self.dropped,
            "undecided": self.undecided,
            "failed": self.failed,
        }
        found = [Sample(SHADOW_READS, (self.table, result), count) for result, count in counts.items()]
        return [*found, Sample(SHADOW_WAITING, (self.table,), self.waiting)]


def _text(answer: object) -> str | None:
    if answer is None:
        return None
    text = repr(answer)
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"
