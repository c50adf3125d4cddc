"""Every command there is, walked over: what each one must have, whatever it does."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from headrace.cli.main import main, program

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
NO_JSON = {"worker"}
"""It runs until it is told to stop, and logs instead of answering."""


def built_in(group: click.Group = program, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """headrace's and Faust's commands, without those that apps of other tests have added."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from built_in(command, f"{above}{name} ")
        elif str(getattr(command.callback, "__module__", "")).startswith(("headrace.", "faust.")):
            yield above + name, command


COMMANDS = dict(built_in())


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status and output of a command line, run in this process."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, int)
    written = capsys.readouterr()
    return end.value.code, written.out, written.err


def section(name: str) -> str:
    """What the reference says of a command."""
    for part in re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        if name in heading.split(", "):
            return text
    raise AssertionError(f"docs/reference/commands.md has no section on `{name}`")


def example(command: click.Command) -> list[str]:
    """The command line of a command's example, for an app that is here."""
    shown = (command.epilog or command.help or "").partition("Example:\n")[2].strip().splitlines()[0]
    words = shlex.split(shown, comments=True)
    assert words[0] == "headrace"
    words = words[1 : words.index("&&") if "&&" in words else None]
    return ["app.loyalty" if word == "app.shop" else word for word in words]


def test_the_walk_meets_the_commands_that_there_are() -> None:
    assert {"worker", "topics", "get", "dead-letters replay", "new", "completion"} <= COMMANDS.keys()
    assert all(str(command.callback.__module__).startswith("headrace.") for command in COMMANDS.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_a_sentence_and_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = ended(capsys, *name.split(), "--help")
    assert status == 0
    sentence = (COMMANDS[name].help or "").partition("\n")[0]
    assert re.fullmatch(r"[A-Z].{10,}[.;:,\w)]", sentence)
    assert re.search(r"Example:\s+headrace \S+", out), out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_tells_its_exit_statuses(name: str) -> None:
    told = section(name).partition("Exit status:")[2]
    assert re.search(r"\b[012]\b", told)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_option_is_told_as_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = ended(capsys, "--json", "-A", "app.loyalty", *name.split(), "--no-such-option")
    assert status == 2
    error: dict[str, Any] = json.loads(out)["error"]
    assert error["status"] == 2
    assert "no-such-option" in error["what"]
    assert "--help" in error["hint"]
    assert "no-such-option" in err


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in NO_JSON])
def test_its_example_answers_in_json_with_a_status_that_the_reference_tells(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("HEADRACE_LOG", "HEADRACE_DATA"):
        monkeypatch.delenv(variable, raising=False)
    arguments = example(COMMANDS[name])
    if name.split()[0] not in arguments:  # a command that only says what to type instead
        arguments = ["-A", "app.loyalty", *name.split()]
    status, out, err = ended(capsys, "--json", *arguments)
    answers = [json.loads(line) for line in out.splitlines()]
    assert len(answers) == 1, out
    told = set(re.findall(r"\b[0-3]\b", section(name).partition("Exit status:")[2]))
    assert str(status) in told
    if status > 1:
        error = answers[0]["error"]
        assert (error["status"], error["type"] != "", error["what"] != "") == (status, True, True)
        assert err
    assert "Traceback" not in err


def test_an_app_that_cannot_be_imported_is_told_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = ended(capsys, "-A", "no_such_module", "topics", "--json")
    assert status == 1
    error = json.loads(out)["error"]
    assert error["type"] == "AppNotImported"
    assert "run this in the folder that holds it" in error["what"]
