"""The page on testing is one test file: all of it is run, as its readers run it."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "testing.md"
OPTIONS = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
TEST_LINES_MAX = 25


def test_the_tests_of_the_tutorial_pass(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    tests = tmp_path / "test_shop.py"
    tests.write_text("\n\n".join(blocks))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *OPTIONS, str(tests)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "5 passed" in ended.stdout


def test_two_hundred_crashes_of_three_agents_are_a_short_test() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if "crashes=200" in block)
    assert len(block.splitlines()) < TEST_LINES_MAX
