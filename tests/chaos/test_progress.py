"""What `make chaos` keeps between two sittings."""

from pathlib import Path

from tests.chaos.fates import FATES, Cycle
from tests.chaos.progress import ProgressFile, Tally, percentile
from tests.chaos.world import moved


def test_a_run_goes_on_with_its_own_seed_where_the_last_checked_stretch_ended(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "chaos")
    progress = file.load(seed=7)
    progress.tally("kill").add(25, 1_000, 60.0, {"ready": [1.0, 2.0]})
    file.keep(progress)
    progress.tally("kill").add(25, 1_000, 60.0, {"ready": [3.0]})
    later = ProgressFile(tmp_path / "chaos").load(seed=8)
    assert later.seed == 7
    assert later.tally("kill") == Tally(25, 1, 1_000, 60.0, {"ready": [1.0, 2.0]})
    assert later.tally("stop") == Tally()


def test_figures_are_told_with_their_median_their_95th_percentile_and_the_longest() -> None:
    tally = Tally()
    tally.add(100, 0, 0.0, {"ready": [float(number) for number in range(100, 0, -1)]})
    assert tally.told() == ["ready: median 50.00 s, p95 95.00 s, longest 100.00 s (100 times)"]
    assert percentile([1.0], 0.5) == 1.0
    assert percentile([1.0, 2.0, 3.0], 0.95) == 3.0


def test_cycles_of_one_number_differ_by_kind_and_seed_and_by_nothing_else() -> None:
    dice = {Cycle(name, 3, seed).dice().random() for name in FATES for seed in (1, 2)}
    assert len(dice) == 2 * len(FATES)
    assert Cycle("kill", 3, 1).dice().random() == Cycle("kill", 3, 1).dice().random()


def test_a_partition_that_goes_to_another_worker_and_comes_back_has_moved_twice() -> None:
    both = frozenset({0, 1})
    # In generation 3 partition 1 is on its way: it belongs to nobody.
    told = {"w0": [(1, both), (3, frozenset({0})), (4, both)], "w1": [(2, both), (3, frozenset[int]())]}
    assert moved({"w0": told["w0"][:1], "w1": []}) == 0
    assert moved(told) == 4
