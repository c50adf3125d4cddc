"""How a soak sees what a process holds."""

import os
from pathlib import Path

import pytest

from tests.chaos.soak import Sample, sample, slope_per_h


def test_a_sample_counts_open_files_and_resident_memory(tmp_path: Path) -> None:
    before = sample(os.getpid())
    with (tmp_path / "one more").open("w"):
        during = sample(os.getpid())
    assert during.fds == before.fds + 1
    assert before.rss_kib > 1_000


def test_growth_is_told_by_the_hour_whatever_it_swings_around() -> None:
    rising = [Sample(60.0 * minute, 50_000 + 10 * minute + (-1) ** minute, 9) for minute in range(600)]
    assert slope_per_h(rising, [each.rss_kib for each in rising]) == pytest.approx(600, abs=1)
    assert slope_per_h(rising, [each.fds for each in rising]) == 0
