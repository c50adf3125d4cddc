"""What the documents say is true: links lead somewhere, code compiles, examples run.

A fenced block whose info string begins with `python` must compile and pass mypy. `python run` runs as a
script and must end well; `python service` is started as a worker, must become ready, and must stop in
peace. In a shell block each command of headrace and each target of make must exist. The site is built as
`make docs` does it, and every link in it must lead somewhere.
"""

import ast
import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from headrace.cli.main import program

ROOT = Path(__file__).parents[1]
RUN_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 30.0
POLL_S = 0.1

_FENCE = re.compile(r"^(`{3,}|~{3,})[ \t]*([^\n`]*)\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code in a document."""

    file: Path
    line: int
    words: tuple[str, ...]
    code: str

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    top = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    return [file for file in top if file.is_file()] + sorted((ROOT / "docs").rglob("*.md"))


def blocks(language: str) -> Iterator[Block]:
    for file in documents():
        text = file.read_text("utf-8")
        for match in _FENCE.finditer(text):
            words = tuple(match[2].split())
            if words[:1] == (language,):
                yield Block(file, text.count("\n", 0, match.start()) + 1, words, match[3])


def python_blocks(word: str | None = None) -> Iterator[Block]:
    return (block for block in blocks("python") if word is None or word in block.words)


def anchors(file: Path) -> set[str]:
    prose = _FENCE.sub("", file.read_text("utf-8"))
    names: set[str] = set()
    for heading in _HEADING.findall(prose):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
        names.add(words.strip().replace(" ", "-"))
    return names


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = []
    for file in documents():
        prose = _FENCE.sub("", file.read_text("utf-8"))
        for target in _LINK.findall(re.sub(r"`[^`\n]*`", "", prose)):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            path, _, anchor = target.partition("#")
            there = (file.parent / path).resolve() if path else file
            is_anchored = not anchor or there.suffix != ".md" or anchor in anchors(there)
            if not there.is_relative_to(ROOT) or not there.exists() or not is_anchored:
                broken.append(f"{file.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_python_block_compiles() -> None:
    broken = []
    for block in python_blocks():
        try:
            compile(block.code, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            broken.append(f"{block.place}: {error}")
    assert broken == []


def modules(file: Path) -> dict[str, str]:
    """The modules that the blocks of a page make: one for each with a word, one for all the others.

    A block whose first line is a comment with a file's name is that file.
    """
    made: dict[str, str] = {}
    for number, block in enumerate(block for block in python_blocks() if block.file == file):
        named = re.match(r"# (\w+\.py)\b", block.code)
        alone = named[1] if named else f"block_{number}.py"
        name = alone if named or {"run", "service"} & set(block.words) else "page.py"
        made[name] = made.get(name, "") + block.code
    return made


def test_every_python_block_has_the_types_it_says(tmp_path: Path) -> None:
    for number, file in enumerate(documents()):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = modules(file)
        for name, code in made.items():
            (folder / name).write_text(code)
        if not made:
            continue
        options = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache"))
        checked = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", *options, *made],
            cwd=folder,
            env=surroundings(MYPYPATH=str(ROOT)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, f"{file.relative_to(ROOT)}: {checked.stdout}{checked.stderr}"


def commands(block: Block) -> Iterator[list[str]]:
    """The commands in a shell block, as words."""
    for line in re.sub(r"\\\n", " ", block.code).splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue  # one of several lines of a quoted argument
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words.pop(0)
        if words:
            yield words


def unknown(words: list[str]) -> str:
    """What of this command line of headrace does not exist; empty when all of it does."""
    group: click.Command = program
    rest = words[1:]
    while isinstance(group, click.Group):
        if not rest:
            return ""
        word = rest.pop(0)
        if word in ("-A", "--app", "--set", "-s", "-l", "--loglevel"):
            rest = rest[1:]
        elif not word.startswith("-"):
            if word not in group.commands:
                return word
            group = group.commands[word]
    known = {name for option in group.params for name in (*option.opts, *option.secondary_opts)}
    return " ".join(word for word in rest if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known)


def test_every_command_in_a_shell_block_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    wrong = []
    for block in blocks("sh"):
        for words in commands(block):
            if words[0] == "headrace" and unknown(words):
                wrong.append(f"{block.place}: headrace has no {unknown(words)}: {' '.join(words)}")
            if words[0] == "make" and not {word for word in words[1:] if word.islower()} <= targets:
                wrong.append(f"{block.place}: {' '.join(words)}")
    assert wrong == []


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert unknown(["headrace", "-A", "shop", "tables", "--json"]) == ""
    assert unknown(["headrace", "-A", "shop", "tabels"]) == "tabels"
    assert unknown(["headrace", "-A", "shop", "send", "topic", "{}", "--kye", "7"]) == "--kye"


class Page(HTMLParser):
    """The links and the anchors of a built page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {""}
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        target = given.get("href") if tag == "a" else given.get("src") if tag == "img" else None
        if target:
            self.links.append(target)


def test_the_site_builds_and_each_of_its_links_leads_somewhere(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "mkdocs.yml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    site = tmp_path / ".cache" / "site"
    pages = {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}
    assert len(pages) == len(list((ROOT / "docs").rglob("*.md")))
    broken = []
    for file, page in pages.items():
        for target in page.links:
            parts = urlsplit(target)
            there = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            there = there / "index.html" if there.is_dir() else there
            is_anchored = there not in pages or parts.fragment in pages[there].anchors | {"__top"}
            if not parts.scheme and not (there.is_file() and is_anchored):
                broken.append(f"{file.relative_to(site)}: {target}")
    assert broken == []


def surroundings(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return kept | {"PYTHONPATH": str(ROOT)} | more


async def test_every_block_marked_run_ends_well(tmp_path: Path) -> None:
    for number, block in enumerate(python_blocks("run")):
        folder = tmp_path / str(number)
        folder.mkdir()
        script = folder / "example.py"
        script.write_text(block.code)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            cwd=folder,
            env=surroundings(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = await finished(process)
        assert process.returncode == 0, f"{block.place} ended with {process.returncode}:\n{output}"


async def finished(process: asyncio.subprocess.Process) -> str:
    """What the process wrote; it is killed when it does not end in time."""
    try:
        async with asyncio.timeout(RUN_TIMEOUT_S):
            return (await process.communicate())[0].decode(errors="replace")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_every_block_marked_service_becomes_ready_and_stops_in_peace(tmp_path: Path) -> None:
    for number, block in enumerate(python_blocks("service")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "service.py").write_text(block.code)
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace", "-A", "service", "worker", "-l", "info"),
            cwd=folder,
            env=surroundings(HEADRACE_HTTP=f"127.0.0.1:{port}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        answered = await becomes_ready(process, port)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        output = await finished(process)
        assert answered, f"{block.place} did not become ready:\n{output}"
        assert process.returncode == 0, f"{block.place} stopped with {process.returncode}:\n{output}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def becomes_ready(process: asyncio.subprocess.Process, port: int) -> bool:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while process.returncode is None:
                if await asyncio.to_thread(is_ready, port):
                    return True
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        return False
    return False


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
