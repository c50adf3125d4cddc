"""A short migration from the first step to the last, as `make migrate EXIT=1` takes it."""

import json
import subprocess
import sys
from typing import Any

import pytest

from app.service import ROOT
from tests.postgres_fixture import require_postgres

SHARE = 0.02
TIMEOUT_S = 600.0


@pytest.mark.timeout(TIMEOUT_S + 30)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_loyalty_leaves_the_database_and_every_household_and_every_read_is_right(database: str) -> None:
    if database == "postgresql":
        require_postgres()
    done = subprocess.run(
        [sys.executable, "-m", "app.migrate", "--exit", "--share", str(SHARE), "--database", database],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["exact"]
    assert (found["positions_checked"], found["households_wrong"]) == (5, 0)
    assert (found["reads_wrong"], found["shadow_different"]) == (0, 0)
    assert found["longest_refusal_s"] <= 1.0
    assert found["reads"] > 100
    assert found["shadow_compared"] >= 10
    assert [diff["different"] + diff["missing"] + diff["extra"] for diff in found["diffs"]] == [0, 0]
    assert found["events"] >= 1_500
