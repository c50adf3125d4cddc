"""`headrace new shop` as somebody does it who has nothing but headrace's wheel."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 540


def run(command: str, folder: Path, path: str | None = None) -> str:
    """The output of a shell command that must end well, without this repository on its module path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "PYTHON"))}
    if path is not None:
        kept["PATH"] = path
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """headrace's wheel, built from this working tree."""
    folder = tmp_path_factory.mktemp("wheels")
    run(f"{sys.executable} -m pip wheel --quiet --no-deps --wheel-dir {folder} {ROOT}", folder)
    (built,) = folder.glob("headrace-*.whl")
    return built


@pytest.mark.timeout(TIMEOUT_S)
def test_the_wheel_has_every_file_of_the_scaffold(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())
    scaffold = ROOT / "headrace" / "cli" / "scaffold"
    templates = {str(file.relative_to(ROOT)) for file in scaffold.rglob("*.tmpl")}
    assert len(templates) > 15
    assert templates <= shipped


@pytest.mark.timeout(TIMEOUT_S)
def test_a_new_service_passes_its_tests_and_shows_its_demo(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    run(f"{sys.executable} -m venv {installed}", tmp_path)
    # What headrace depends on is here already; headrace itself must come from the wheel.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(installed), "platbase": str(installed)}))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    run(
        f"{installed}/bin/python -m pip install --quiet --no-deps --no-index --force-reinstall {wheel}",
        tmp_path,
    )

    empty = tmp_path / "empty"
    empty.mkdir()
    path = f"{installed}/bin:{os.environ['PATH']}"
    shown = run("headrace new shop && cd shop && make test && make demo EXIT=1", empty, path)
    assert "3 passed" in shown
    assert "Every total is exact." in shown
    run("make check", empty / "shop")
    where = run(".venv/bin/python -c 'import headrace; print(headrace.__file__)'", empty / "shop")
    assert where.startswith(str(empty / "shop" / ".venv"))
