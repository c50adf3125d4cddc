"""Whatever happens to the files of a store, nobody reads a wrong row, and the store is whole again."""

import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import headrace
from headrace import errors
from headrace.log.simulated.log import SimulatedLog
from headrace.tables.folder import QUARANTINED_MAX
from headrace.tables.rocksdb import RocksEngine
from headrace.tables.view import ViewState
from tests.flow.shop import Balance, Bought, Shop, by_key, declare_shop, fold, purchases
from tests.service import Service, running

MiB = 1 << 20
MUTATED = int(os.environ.get("HEADRACE_TEST_MUTATIONS") or 60)
EVENTS = purchases(27_000, people=9_000)
EXPECTED = fold(EVENTS)


def engine_in(folder: Path) -> RocksEngine:
    return RocksEngine(folder, cache_bytes=MiB // 4, write_buffer_bytes=32 * MiB)


def open_served_shop() -> Shop:
    """The shop over one partition, its balances served."""
    shop = declare_shop(partitions=1)
    shop.app.serve(shop.balances, "/balances")

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            shop.balances[event.who] = shop.balances[event.who].plus(event)

    return shop


@dataclass(frozen=True)
class Estate:
    """What a worker that was killed has left: its log, and its store as it lay on the disk."""

    shop: Shop
    log: SimulatedLog
    image: Path

    @asynccontextmanager
    async def inherited(self, folder: Path) -> AsyncIterator[Service]:
        """A worker that runs on the files in this folder."""
        engine = engine_in(folder)
        async with running(self.shop.app, log=self.log, engine=engine) as service:
            yield service
            await service.stop()
            self.check_store(folder)

    def check_store(self, folder: Path) -> None:
        """The store, opened by itself, is the fold of the changelog."""
        changelog = self.log.cluster.topics["shop.main.changelog"].partitions[0]
        folded = {
            key: row for key, row in zip(changelog.keys, changelog.values, strict=True) if key and key[0] != 0
        }
        engine = engine_in(folder)
        snapshot = engine.open("main", 0).snapshot()
        assert dict(snapshot.scan(b"", None)) == {key: row for key, row in folded.items() if row is not None}
        engine.close()


@pytest.fixture
async def estate(tmp_path: Path) -> Estate:
    shop, log = open_served_shop(), SimulatedLog()
    data, image = tmp_path / "data", tmp_path / "image"
    # A life whose rows a stop has put into a table file, and one that was killed.
    async with running(shop.app, log=log, engine=engine_in(data)) as service:
        await service.send_all(shop.buys, by_key(EVENTS[:20_000]))
        await service.until_applied()
    async with running(shop.app, log=log, engine=engine_in(data)) as service:
        for start in range(20_000, len(EVENTS), 1_000):
            await service.send_all(shop.buys, by_key(EVENTS[start : start + 1_000]))
        await service.until_applied()
        # As it lies there, and not as a stop would leave it: its last batches are in the log alone.
        copy_standing_still(data, image)
    # Few enough that RocksDB does not merge them while a test damages them.
    tables = sorted(path.stat().st_size for path in image.rglob("*.sst"))
    assert 1 < len(tables) < 4, tables
    kinds = {kind: list((image / "main-0").glob(kind)) for kind in FILES}
    assert all(kinds.values()), kinds
    return Estate(shop, log, image)


def copy_standing_still(source: Path, target: Path) -> None:
    """Copy the files of an open store at a moment at which RocksDB moves none of them."""

    def listing() -> list[tuple[str, int]]:
        return sorted((path.name, path.stat().st_size) for path in source.rglob("*") if path.is_file())

    while True:
        try:
            before = listing()
            shutil.copytree(source, target)
            if listing() == before:
                return
        except (shutil.Error, FileNotFoundError):
            assert source.is_dir()
        shutil.rmtree(target, ignore_errors=True)


FILES = ("*.sst", "MANIFEST-*", "CURRENT", "OPTIONS-*", "*.log")


def flip(path: Path, dice: random.Random) -> None:
    with path.open("r+b") as file:
        at = dice.randrange(path.stat().st_size)
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << dice.randrange(8)]))


def cut(path: Path, dice: random.Random) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(dice.randrange(size) if size else 0)


def delete(path: Path, dice: random.Random) -> None:
    path.unlink()


MUTATIONS: tuple[Callable[[Path, random.Random], None], ...] = (flip, cut, delete)


def mutate(folder: Path, number: int) -> str:
    """One of the mutations, by its number; what it was."""
    dice = random.Random(number)
    mutation, kind = MUTATIONS[number % 3], FILES[number // 3 % 5]
    path = dice.choice(sorted(path for path in folder.glob(kind) if path.stat().st_size))
    mutation(path, dice)
    return f"{mutation.__name__} {path.name} ({number})"


def large_tables(folder: Path) -> list[Path]:
    return [path for path in (folder / "main-0").glob("*.sst") if path.stat().st_size > 10_000]


async def until_rebuilt(service: Service, takeovers: int) -> None:
    """Return once the task was taken over again and answers."""
    (view,) = service.runtime.views()
    while service.runtime.figures_of_flow.takeovers <= takeovers or view.state is not ViewState.SERVING:
        await service.until_change(view)


async def read_everything(service: Service, what: str) -> None:
    """Every row, by key and in a scan: right, or refused and then right."""
    table = service.table("balances")
    for _ in range(2):
        takeovers = service.runtime.figures_of_flow.takeovers
        try:
            for who in range(0, 9_000, 97):
                assert table[who] == EXPECTED[who], what
            assert table.rows() == EXPECTED, what
            return
        except errors.StoreCorrupt:
            await until_rebuilt(service, takeovers)
    raise AssertionError(f"a rebuilt store is damaged, too: {what}")


async def test_whatever_is_done_to_a_file_of_a_store_is_harmless_or_found_out(
    estate: Estate, tmp_path: Path
) -> None:
    outcomes: dict[str, bool] = {}
    for number in range(MUTATED):
        folder = tmp_path / f"mutated-{number}"
        shutil.copytree(estate.image, folder)
        what = mutate(folder / "main-0", number)
        async with estate.inherited(folder) as service:
            await read_everything(service, what)
        outcomes[what] = bool(list(folder.glob("main-0.quarantined-*")))
        shutil.rmtree(folder)
    found_out = {what for what, is_found_out in outcomes.items() if is_found_out}
    assert len(outcomes) == MUTATED
    # What the store cannot live without must have been missed; what it can is rebuilt from the log.
    needed = {what for what in outcomes if what.startswith("delete") and "OPTIONS" not in what}
    assert needed - found_out <= {what for what in needed if ".log" in what or ".sst" in what}
    assert any(".sst" in what for what in found_out)
    assert not any("OPTIONS" in what for what in found_out)


async def balances_over_http(service: Service) -> dict[int, Balance]:
    """All balances, page by page; a page that is refused is asked for again once the task is back."""
    host, port = service.runtime.address
    found: dict[int, Balance] = {}
    cursor = ""
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as http:
        while True:
            takeovers = service.runtime.figures_of_flow.takeovers
            answer = await http.get(
                "/balances", params={"limit": "1000", **({"cursor": cursor} if cursor else {})}
            )
            if answer.status_code == 503:
                assert answer.headers["retry-after"]
                await until_rebuilt(service, takeovers)
                continue
            page = answer.json()
            found |= {row["key"]: Balance(**row["value"]) for row in page["rows"]}
            if page["cursor"] is None:
                return found
            cursor = page["cursor"]


@pytest.mark.parametrize("mutation", [flip, cut])
async def test_damage_under_an_open_store_is_met_by_a_scan_over_http_and_cured(
    estate: Estate, tmp_path: Path, mutation: Callable[[Path, random.Random], None]
) -> None:
    folder = tmp_path / "open"
    shutil.copytree(estate.image, folder)
    async with estate.inherited(folder) as service:
        for path in large_tables(folder):
            for seed in range(20):
                mutation(path, random.Random(seed))
        assert await balances_over_http(service) == EXPECTED
        assert service.runtime.figures_of_flow.failures == {"StoreCorrupt": 1}
        assert len(list(folder.glob("main-0.quarantined-*"))) == 1
        await service.send(estate.shop.buys, EVENTS[0], key=EVENTS[0].who)
        await service.until_applied()
        assert service.table("balances")[EVENTS[0].who] == EXPECTED[EVENTS[0].who].plus(EVENTS[0])


async def test_damage_that_an_agent_reads_commits_nothing_even_if_the_agent_hides_it(
    estate: Estate, tmp_path: Path
) -> None:
    folder, shop = tmp_path / "hidden", declare_shop(partitions=1)

    @shop.app.agent(shop.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            try:
                before = shop.balances[event.who]
            except errors.StoreCorrupt:
                before = Balance()
            shop.balances[event.who] = before.plus(event)

    shutil.copytree(estate.image, folder)
    inherited = Estate(shop, estate.log, folder)
    more = purchases(4_500, people=9_000)
    async with inherited.inherited(folder) as service:
        for path in large_tables(folder):
            for seed in range(200):
                flip(path, random.Random(seed))
        await service.send_all(shop.buys, by_key(more))
        await service.until_applied()
        assert service.table("balances").rows() == fold([*EVENTS, *more])
        assert service.runtime.figures_of_flow.failures == {"StoreCorrupt": 1}


async def test_only_the_newest_quarantined_stores_are_kept_and_none_counts_as_held(
    estate: Estate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(estate.image, folder)
    asides: list[set[Path]] = []
    for _ in range(QUARANTINED_MAX + 2):
        (folder / "main-0" / "CURRENT").unlink()
        async with estate.inherited(folder) as service:
            await read_everything(service, "CURRENT")
        asides.append(set(folder.glob("main-0.quarantined-*")))
    assert [len(each) for each in asides] == [1, 2, 2, 2]
    assert asides[0].isdisjoint(asides[-1])
    assert engine_in(folder).held("main").keys() == {0}
    assert "main/0 is damaged and is rebuilt from its changelog" in caplog.text
    assert "no CURRENT file" in caplog.text
    assert str(next(iter(asides[0]))) in caplog.text


async def test_a_mark_that_cannot_be_read_is_damage_like_any_other(estate: Estate, tmp_path: Path) -> None:
    folder = tmp_path / "mark"
    shutil.copytree(estate.image, folder)
    engine = engine_in(folder)
    engine.open("main", 0).write([], b"{not a mark")
    engine.close()
    async with estate.inherited(folder) as service:
        await read_everything(service, "mark")
    assert len(list(folder.glob("main-0.quarantined-*"))) == 1
