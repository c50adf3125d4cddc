"""What the page shows now, by slot: a text, or an attribute of what is drawn."""

from collections.abc import Iterator, Mapping

from app.before.stage import Stage
from app.migrate.frontdoor import Side
from app.migrate.status import Status

_FAINT = "0.22"
_HOT, _WARM, _COOL = ("red", "amber", "green")
_PACES = (0.5, 20.0, 80.0, 160.0, 300.0)
_PHASES = {
    Stage.SHARED: "every service writes every table",
    Stage.BASKETS: "checkout publishes, and still writes loyalty's tables",
    Stage.PUBLISHED: "both publish, and still write loyalty's tables",
    Stage.APPLIED: "only the applier writes loyalty's tables",
    Stage.POSITIONED: "only the applier writes loyalty's tables",
}


def shown(status: Status) -> Mapping[str, str]:
    """Every slot of the page."""
    return dict(_slots(status))


def shape(status: Status) -> str:
    """The same text for the same lists."""
    lists = (status.steps, status.checkpoints, status.diffs)
    measured = (status.before is not None, status.after is not None, status.is_done)
    return repr([[len(each) for each in lists], measured])


def _slots(status: Status) -> Iterator[tuple[str, str]]:
    yield "migration/state", "done" if status.is_done else "under way"
    yield "migration/state\tdata-state", "serving" if status.is_done else "starting"
    yield "step", status.step
    yield from _load(status)
    yield from _reads(status)
    yield from _parts(status)
    yield "tile/load", f"{status.now.total:,.0f}" if status.now else "-"
    yield "tile/reads", "its own table" if status.side is Side.OWN else "the database"
    compared = status.shadow_agreed + status.shadow_differing
    yield "tile/shadow", f"{status.shadow_differing:,} of {compared:,}" if compared else "-"
    wrong = status.tally.wrong
    yield "tile/wrong", f"{wrong:,} of {status.tally.reads:,}"
    yield "tile/wrong\tdata-count", "some" if wrong else "none"
    yield "tile/shadow\tdata-count", "some" if status.shadow_differing else "none"


def _load(status: Status) -> Iterator[tuple[str, str]]:
    rates = status.now.statements_per_s if status.now else {}
    total = sum(rates.values())
    before = status.before.total if status.before else total
    share = total / before if before else 0.0
    heat = _HOT if share > 0.75 else _WARM if share > 0.4 else _COOL
    yield "heat\tfill", f"var(--{heat}-wash)"
    yield "heat\tstroke", f"var(--{heat})"
    yield "load", f"{total:,.0f}"
    for name in ("checkout", "promotions", "loyalty"):
        yield f"{name}/rate", f"{rates.get(name, 0.0):,.0f}/s"
        yield f"{name}\tdata-pace", _pace(rates.get(name, 0.0))
        yield f"who/{name}", f"{rates.get(name, 0.0):,.0f}"
    for name in ("bridge", "own"):
        yield f"who/{name}", f"{rates[name]:,.0f}" if name in rates else "-"
    baskets = status.now.baskets_per_s if status.now else 0.0
    is_open = status.is_bridged
    for name, words in (("relay", "relay"), ("applier", "applier"), ("own-in", "reads")):
        yield f"{name}/rate", words
        yield f"{name}\tdata-pace", _pace(baskets if is_open else 0.0)
    yield "trade", f"{status.baskets:,} baskets sold, {baskets:,.0f} a second"


def _reads(status: Status) -> Iterator[tuple[str, str]]:
    reads = status.now.reads_per_s if status.now else 0.0
    is_own = status.side is Side.OWN
    yield "read-old\tdata-pace", _pace(0.0 if is_own else reads)
    yield "read-own\tdata-pace", _pace(reads if is_own else 0.0)
    yield "read-old/shown\topacity", _FAINT if is_own else "1"
    yield "read-own/shown\topacity", "1" if is_own else _FAINT
    yield "readers/title", "Who asks for points"
    yield "readers/note", f"{reads:,.0f} reads a second"
    yield "old/shown\topacity", _FAINT if status.after is not None else "1"
    yield "loyalty/shown\topacity", _FAINT if status.after is not None else "1"


def _parts(status: Status) -> Iterator[tuple[str, str]]:
    publishes = status.stage.publishes_baskets
    for name in ("relay", "applier", "own-in"):
        is_there = publishes if name == "relay" else status.is_bridged
        yield f"{name}/shown\topacity", "1" if is_there else "0"
    yield "new/shown\topacity", "1" if status.is_bridged else _FAINT
    yield "outbox/shown\topacity", "1" if publishes else "0"
    yield "checkout/title", "checkout"
    yield "promotions/title", "promotions"
    yield "old/title", "old loyalty"
    yield "checkout/note", "with an outbox" if publishes else "writes all tables"
    redeems = status.stage.publishes_redemptions
    yield "promotions/note", "with an outbox" if redeems else "writes all tables"
    yield "old/note", "nobody asks it" if status.after is not None else "reads what others write"
    yield "own/note", "no database in reach" if status.is_alone else "from events only"
    who = "writers/all", "writers/one"
    yield who[not status.stage.updates], _PHASES[status.stage]
    yield who[status.stage.updates], ""


def _pace(per_s: float) -> str:
    return str(sum(per_s > pace for pace in _PACES))
