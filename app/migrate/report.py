"""The last line of a migration: what was found, as JSON, and whether all of it is right."""

from collections.abc import Iterator
from typing import Any

from app.migrate.status import Status

REFUSAL_MAX_S = 1.0
CHECKPOINTS_MIN = 5
"""Once before anything is changed, three times on the way, and at the end."""
_DIFFERENCES = ("missing", "extra", "different", "undecided")


def faults(status: Status) -> Iterator[str]:
    """Everything that is not as it must be, a sentence each."""
    tally = status.tally
    for each in status.checkpoints:
        if not each.is_exact:
            yield (
                f"checkpoint {each.name!r}: {each.database_wrong} households wrong in the database, "
                f"{each.own_wrong} in loyalty's own table, {each.unseen} not seen at one position"
            )
    if len(status.checkpoints) < CHECKPOINTS_MIN:
        yield f"only {len(status.checkpoints)} of {CHECKPOINTS_MIN} checkpoints were made"
    if tally.wrong:
        yield f"{tally.wrong} reads were answered wrongly, first: {tally.examples[0]}"
    if tally.longest_refusal_s > REFUSAL_MAX_S:
        yield f"a read was refused for {tally.longest_refusal_s:.2f} s"
    if status.shadow_differing or not status.shadow_agreed:
        yield f"of the shadow reads {status.shadow_differing} differ, {status.shadow_agreed} agree"
    for diff in status.diffs:
        if any(diff[name] for name in _DIFFERENCES):
            counts = ", ".join(f"{diff[name]} {name}" for name in _DIFFERENCES)
            yield f"bridge diff of {diff['table']}: {counts}"
    if not status.diffs:
        yield "no comparison by `headrace bridge diff` was made"
    if status.missing:
        yield f"{status.missing} facts are not in the log, or are there more than once"
    if status.before is None or status.after is None:
        yield "the load on the shared database was not measured"
    elif status.is_load_comparable and status.after.total >= status.before.total:
        yield "the load on the shared database did not fall"


def summary(status: Status) -> dict[str, Any]:
    """The facts of the last line."""
    tally, last = status.tally, status.checkpoints[-1] if status.checkpoints else None
    return {
        "exact": not any(faults(status)),
        "database": status.database,
        "households": last.households if last else 0,
        "events": last.facts if last else 0,
        "positions_checked": len(status.checkpoints),
        "households_wrong": sum(c.database_wrong + c.own_wrong + c.unseen for c in status.checkpoints),
        "reads": tally.reads,
        "reads_wrong": tally.wrong,
        "reads_refused": tally.refused,
        "longest_refusal_s": round(tally.longest_refusal_s, 3),
        "statements_per_s_before": round(status.before.total, 1) if status.before else None,
        "statements_per_s_after": round(status.after.total, 1) if status.after else None,
        "is_load_comparable": status.is_load_comparable,
        "shadow_compared": status.shadow_agreed + status.shadow_differing,
        "shadow_different": status.shadow_differing,
        "diffs": [
            {name: diff[name] for name in ("table", "compared", *_DIFFERENCES)} for diff in status.diffs
        ],
        "seconds": round(status.seconds, 1),
    }
