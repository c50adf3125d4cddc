"""A disk that fills up stops work by name and loses nothing; with room again, work goes on by itself."""

import contextlib
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import errors
from headrace.log.embedded.log import EmbeddedLog
from tests.flow.shop import Bought, by_key, fold, open_shop, purchases
from tests.service import Service, committed, quick, running

DISK_BYTES = 16 * 1024 * 1024


class Disk:
    """A small file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take every byte that is left."""
        with self._filler.open("ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(b"\0" * (1 << 12)):
                    pass
        assert os.statvfs(self.folder).f_bavail == 0

    def clear(self) -> None:
        """Give it back."""
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        sentence = f"THE FULL-DISK SUITE DOES NOT RUN: a tmpfs cannot be mounted ({mounted.stderr.strip()})"
        if os.environ.get("TEST_REQUIRE_ALL") == "1":
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def until_failed(service: Service, failures: int) -> None:
    """Return once tasks have failed more than so many times."""
    (view,) = service.runtime.views()
    while sum(service.runtime.figures_of_flow.failures.values()) <= failures:
        await service.until_change(view)


async def test_a_store_whose_disk_fills_up_twice_loses_nothing(disk: Disk) -> None:
    shop, sent = open_shop(partitions=1), purchases(2_000)
    files = quick(store="rocksdb", data=str(disk.folder / "data"), rocksdb_write_buffer_bytes=8 << 20)
    async with running(shop.app, settings=files) as service:
        await service.send_all(shop.buys, by_key(sent))
        await service.until_applied()
        for turn in range(2):
            figures = service.runtime.figures_of_flow
            failed_before = sum(figures.failures.values())
            disk.fill()
            more = [Bought(10_000 + index, turn * 10_000 + index) for index in range(5_000)]
            sent += more
            await service.send_all(shop.buys, by_key(more))
            await until_failed(service, failed_before)
            assert set(figures.failures) == {"StoreUnwritable"}
            disk.clear()
            await service.until_applied()
            assert service.table("balances").rows() == fold(sent)
        receipts = await committed(service.log, shop.receipts)
        assert Counter(d.value for d in receipts) == Counter(e for e in sent if e.cents % 10 == 0)
    assert not list(disk.folder.rglob("*.quarantined-*"))


async def test_a_log_whose_disk_fills_up_twice_keeps_what_it_acknowledged_and_nothing_else(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.flow.lag._INTERVAL_S", 0.01)
    shop, sent = open_shop(partitions=1), list[Bought]()
    async with running(shop.app, log=EmbeddedLog(disk.folder / "log.db")) as service:
        for turn in range(2):
            for event in purchases(50):
                await service.send(shop.buys, event, key=event.who)
                sent.append(event)
            disk.fill()
            refused = None
            number = 0
            while refused is None:
                event = Bought(number % 7, turn * 100_000 + number)
                number += 1
                try:
                    await service.send(shop.buys, event, key=event.who)
                    sent.append(event)
                except errors.Unavailable as error:
                    refused = error
            assert "is full" in str(refused)
            with pytest.raises(errors.Unavailable, match="is full"):
                await service.log.record_lag("shop", service.position())
            disk.clear()
            await service.until_applied()
            assert service.table("balances").rows() == fold(sent)
        events = [delivery.value for delivery in await committed(service.log, shop.buys)]
        assert events == sent
        receipts = await committed(service.log, shop.receipts)
        assert Counter(d.value for d in receipts) == Counter(e for e in sent if e.cents % 10 == 0)
        assert set(service.runtime.figures_of_flow.failures) <= {"Unavailable"}
