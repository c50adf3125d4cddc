"""Stories by seed: what is put into the bank, and what happens to its workers meanwhile."""

from random import Random
from typing import Any

from headrace.testing import Advance, Compact, Crash, CrashPoint, Join, Leave, Outage, Poison, Rebalance
from tests.simulation.bank import Closed, Moved

ACCOUNTS = 8
WORKERS_MAX = 3
BAD = (b"", b"no event", b'{"type":"Opened","account":1}', b'{"type":"Moved","account":"x"}', b"\xff\xfe")


def tell(seed: int, *, steps: int) -> list[Any]:
    """A story of so many steps: a few events each, and then a disturbance."""
    rng = Random(seed)
    story: list[Any] = []
    workers = 1
    for _ in range(steps):
        story += [_event(rng) for _ in range(rng.randint(0, 6))]
        disturbance, workers = _disturbance(rng, workers)
        story.append(disturbance)
    return story


def _event(rng: Random) -> Moved | Closed | Poison:
    if rng.random() < 0.08:
        return Poison(rng.choice(BAD), "movements", b"%d" % rng.randrange(ACCOUNTS))
    account = rng.randrange(ACCOUNTS)
    return Closed(account) if rng.random() < 0.1 else Moved(account, rng.randint(-300, 1_000))


def _disturbance(rng: Random, workers: int) -> tuple[Any, int]:
    worker = rng.randrange(workers)
    match rng.choices(("crash", "outage", "rebalance", "join", "leave", "compact", "advance"), WEIGHTS)[0]:
        case "crash":
            point, keeps_store = rng.choice(list(CrashPoint)), rng.random() < 0.7
            return Crash(point, rng.randint(1, 6), keeps_store, worker), workers
        case "outage":
            return Outage(rng.choice((0.1, 3.0, 20.0)), rng.randint(1, 8), worker), workers
        case "rebalance":
            return Rebalance(), workers
        case "join" if workers < WORKERS_MAX:
            return Join(), workers + 1
        case "leave" if workers > 1:
            return Leave(worker), workers - 1
        case "compact":
            return Compact(), workers
    return Advance(rng.choice((1.0, 60.0))), workers


WEIGHTS = (10, 2, 2, 1, 1, 2, 1)
