"""What `headrace new` writes, and what it refuses to write."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from headrace.cli.new import check_name, write_scaffold

NAMES = ("a", "shop", "orders_of_the_web_shop_2")


def ran(folder: Path, *command: str) -> str:
    """The output of a tool that must be content."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_the_code_is_formatted_linted_and_names_the_service_everywhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    written = write_scaffold(name, folder)
    ran(folder, "ruff", "format", "--check", ".")
    ran(folder, "ruff", "check", ".")
    assert {f"{part}/{name}.py" for part in ("app", "agents", "tables", "schemas")} <= set(written)
    for path in written:
        assert not re.search(r"\{\{|\}\}(?!\")|__name__\.py|\.tmpl", (folder / path).read_text()), path


def test_the_compose_file_follows_its_published_schema(tmp_path: Path) -> None:
    write_scaffold("shop", tmp_path / "shop")
    compose = str(tmp_path / "shop" / "docker-compose.yml")
    ran(tmp_path, "check_jsonschema", "--builtin-schema", "vendor.compose-spec", compose)


def test_make_help_names_every_target(tmp_path: Path) -> None:
    write_scaffold("shop", tmp_path / "shop")
    shown = subprocess.run(["make"], cwd=tmp_path / "shop", capture_output=True, text=True, check=True).stdout
    for target in ("test", "demo", "run", "check", "clean"):
        assert re.search(rf"^  make {target}\s+\w+", shown, re.MULTILINE), target


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("class", "word of Python"),
        ("async", "word of Python"),
        ("demo", "taken"),
        ("headrace", "taken"),
        ("", "begins with"),
        ("Shop", "begins with"),
        ("web-shop", "begins with"),
        ("2shop", "begins with"),
        ("../shop", "begins with"),
        ("shöp", "begins with"),
        ("shop\n", "begins with"),
        ("s" * 25, "at most 24"),
    ],
)
def test_a_name_that_no_service_can_have_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(click.UsageError, match=sentence):
        check_name(name)


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(click.UsageError, match="not empty"):
        write_scaffold("shop", tmp_path)
    with pytest.raises(click.UsageError, match="no folder"):
        write_scaffold("shop", tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    written = write_scaffold("shop", folder)
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == written
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        write_scaffold("shop", tmp_path / "file" / "shop")


def test_new_tells_a_script_what_it_wrote(tmp_path: Path) -> None:
    told = json.loads(ran(tmp_path, "headrace", "new", "shop", "--json"))
    assert told["folder"] == "shop"
    assert all((tmp_path / "shop" / path).is_file() for path in told["files"])
