"""A worker that runs by its contract alone opens no database, however its code tries to."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.process.workers import REPOSITORY, Worker, breath, running


def worker(folder: Path, *options: str, by_faust: bool = False, **environment: str) -> Worker:
    given = {"HEADRACE_LOG": f"embedded://{folder}/log.db", **environment}
    made = Worker("tests.process.apps.tempted", "w0", folder, given, by_faust=by_faust)
    made._command += options
    return made


async def refused(tempted: Worker) -> str:
    """What a worker says that ends by itself."""
    await tempted.start()
    assert await tempted.ended() != 0
    return tempted.tail()


async def test_a_driver_that_the_app_imports_is_refused_where_it_does(tmp_path: Path) -> None:
    said = await refused(worker(tmp_path, "--contract-only", TEMPTATION="import"))
    assert "import psycopg" in said


@pytest.mark.parametrize("by_faust", [True, False])
async def test_a_driver_that_was_imported_before_is_refused_at_the_start(
    tmp_path: Path, by_faust: bool
) -> None:
    tempted = worker(tmp_path, by_faust=by_faust, TEMPTATION="import", HEADRACE_CONTRACT_ONLY="true")
    assert "has imported psycopg" in await refused(tempted)


async def test_an_applier_is_refused_at_the_start(tmp_path: Path) -> None:
    said = await refused(worker(tmp_path, "--contract-only", TEMPTATION="applier"))
    assert "declares the applier's agent" in said


async def test_what_reaches_for_a_database_later_is_an_error_of_its_event(tmp_path: Path) -> None:
    tempted = worker(tmp_path, "--contract-only")
    async with running(tempted), httpx.AsyncClient() as client:
        for name, value in (("a", b"lazily"), ("b", b"file"), ("c", b"innocent")):
            status, output = await tempted.command("send", "tempted.told", value.decode(), "--key", name)
            assert status == 0, output
        while (await tempted.get(client, "/names/c")).status_code != 200:
            await breath()
        assert (await tempted.get(client, "/names/a")).status_code == 404
        assert (await tempted.get(client, "/names/b")).status_code == 404
        status, letters = await tempted.command("dead-letters", "list", "--json")
        assert status == 0
        assert letters.count("ContractOnly") == 2, letters


def test_a_driver_of_one_file_is_refused_by_whatever_name_of_import(tmp_path: Path) -> None:
    (tmp_path / "pgdb.py").write_text("")
    tried = """
import importlib
from headrace.bridge.contractonly import forbid_databases
from headrace.errors import ContractOnly
forbid_databases()
for load in (lambda: importlib.import_module("pgdb"), lambda: __import__("pgdb")):
    try:
        load()
    except ContractOnly as refused:
        print(refused.what)
"""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{tmp_path}"}
    said = subprocess.run([sys.executable, "-c", tried], env=environment, stdout=subprocess.PIPE, check=True)
    assert said.stdout.count(b"import pgdb") == 2


async def test_without_the_option_nothing_is_forbidden(tmp_path: Path) -> None:
    async with running(worker(tmp_path, TEMPTATION="import")):
        pass
