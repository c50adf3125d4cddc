"""Shell completion, as the shells ask for it."""

import asyncio
from pathlib import Path

import pytest

from tests.process.test_command_line import Shell


async def completed(shell: Shell, words: str, begun: str = "") -> set[str]:
    """What bash would offer behind these words."""
    line = ["headrace", *words.split(), begun]
    shell.environment |= {
        "_HEADRACE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    ended = await shell.run("headrace")
    assert ended.err == ""
    return {offered.partition(",")[2] for offered in ended.out.splitlines() if offered}


async def test_commands_options_tables_and_topics_are_completed(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert {"worker", "dead-letters", "new", "completion"} <= await completed(shell, "")
    assert await completed(shell, "-A svc dead-letters", "re") == {"replay"}
    assert await completed(shell, "dead-letters replay", "--dr") == {"--dry-run"}
    assert await completed(shell, "-A svc get") == {"totals"}
    assert await completed(shell, "-A svc send", "svc.") == {"svc.numbers"}
    assert await completed(shell, "get") == set()


async def test_an_app_that_does_not_import_leaves_the_rest_to_complete(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert "topics" in await completed(shell, "-A nowhere", "top")
    assert await completed(shell, "-A nowhere get") == set()


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
async def test_the_script_is_one_that_the_shell_takes(tmp_path: Path, name: str) -> None:
    shell = Shell(tmp_path)
    written = await shell.run("headrace", "completion", name)
    assert written.status == 0
    assert f"_HEADRACE_COMPLETE={name}_complete" in written.out
    assert (await shell.run("headrace", "completion", name, "--json")).json()["shell"] == name
    if name == "bash":
        (tmp_path / "script").write_text(written.out)
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            "source ./script && complete -p headrace",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert b"_headrace_completion headrace" in out
