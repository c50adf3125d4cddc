"""What a seed draws: an app, its workers, and how much goes on."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Shape:
    """One world, as its seed has it."""

    seed: int
    partitions: int
    workers: int
    unit_records_max: int
    cache_rows_max: int
    slice_rows: int
    """Rows of one write batch: a unit has several where there are few."""
    accounts: int
    orders: int
    troubles: int
    requests: int
    retries: int
    """How often booking is tried again."""
    has_archive: bool
    has_rates: bool
    has_bridge: bool
    busy_s: float
    pace: float
    """Share of calls to the log that take a while."""


def draw(seed: int) -> Shape:
    """The shape of a seed."""
    rng = Random(f"shape {seed}")
    return Shape(
        seed=seed,
        partitions=rng.choice((1, 1, 2, 2, 3)),
        workers=rng.choice((1, 1, 1, 2, 2, 2, 3, 3, 4, 5)),
        unit_records_max=rng.choice((1, 2, 3, 3, 5, 8)),
        cache_rows_max=rng.choice((2, 4, 1_000)),
        slice_rows=rng.choice((1, 2, 2, 400)),
        accounts=rng.choice((3, 5)),
        orders=rng.randint(4, 12),
        troubles=rng.choice((1, 2, 2, 3, 3, 4)),
        requests=rng.choice((0, 0, 2, 4)),
        retries=rng.choice((0, 0, 1, 2)),
        has_archive=rng.random() < 0.2,
        has_rates=rng.random() < 0.3,
        has_bridge=rng.random() < 0.15,
        busy_s=2.0,
        pace=rng.choice((0.0, 0.2, 0.5)),
    )
