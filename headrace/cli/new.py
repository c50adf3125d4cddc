"""`new`: a service that runs, to begin with."""

import json
import keyword
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import click

from headrace.cli.command import BareCommand, ExitStatus, NotDone, argument, option

_NAME_CHARS_MAX = 24
_TAKEN = frozenset({"demo", "headrace"})
"""Names that another file of the scaffold, or headrace itself, has."""
_SUFFIX = ".tmpl"
_LOCAL = "local.mk"
_NEXT = ("make test", "make demo EXIT=1", "make run")


class New(BareCommand):
    """Make a folder with a service that runs: topic, agent, table, reads, tests, demo, compose file.

    NAME is that of the service, its app and its folder: a letter, then letters, digits and `_`, in
    lower case.
    """

    example = "new shop && cd shop && make test && make demo"
    options = [
        argument("name"),
        option(
            "--into",
            type=click.Path(path_type=Path),
            default=None,
            show_default=False,
            help="Another folder than ./NAME; it must be empty or absent.",
        ),
    ]

    async def answer(self) -> ExitStatus:
        """The folder, and what to type next."""
        name = check_name(self.kwargs["name"])
        folder: Path = self.kwargs["into"] or Path(name)
        try:
            written = write_scaffold(name, folder)
        except OSError as error:
            raise NotDone(
                f"the folder {folder} cannot be made: {error.strerror or error}; "
                "name one that you may write with --into"
            ) from error
        if self.json:
            self.show_json({"name": name, "folder": str(folder), "files": written, "next": list(_NEXT)})
        else:
            click.echo(f"{folder}: {len(written)} files. Next:\n  cd {folder}")
            click.echo("\n".join(f"  {step}" for step in _NEXT))
        return ExitStatus.YES


def check_name(name: str) -> str:
    """The name, if a service can have it. Raises: UsageError."""
    if keyword.iskeyword(name):
        raise click.UsageError(
            f"{name!r} is a word of Python itself; take another name, such as {name}_service"
        )
    if name in _TAKEN:
        raise click.UsageError(f"{name!r} is taken by the scaffold itself; take another name, such as shop")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise click.UsageError(
            f"{name!r} cannot be the name of a service: it begins with a lower-case letter and goes on with "
            "such letters, digits and _, as in web_shop"
        )
    if len(name) > _NAME_CHARS_MAX:
        raise click.UsageError(f"a name has at most {_NAME_CHARS_MAX} letters, this one has {len(name)}")
    return name


def write_scaffold(name: str, folder: Path) -> list[str]:
    """Write the service into a folder that is empty or absent; the files' names.

    Order: written beside the folder and moved there at the end, so it is whole or not there.
    Raises: UsageError for a folder with something in it, OSError.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise click.UsageError(f"{folder} is there and is no folder; choose another one with --into")
    if folder.is_dir() and any(folder.iterdir()):
        raise click.UsageError(f"the folder {folder} is not empty; choose another one with --into")
    rendered = dict(_rendered(name))
    folder = folder.absolute()
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        for path, text in rendered.items():
            file = beside / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        beside.rename(folder)  # onto an empty folder, too
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return sorted(rendered)


def _rendered(name: str) -> Iterator[tuple[str, str]]:
    major, minor = version("headrace").split(".")[:2]
    words = {
        "{{name}}": name,
        "{{headrace}}": f">={version('headrace')},<{major}.{int(minor) + 1}",
    }
    for path, template in _templates(files("headrace.cli") / "scaffold"):
        text = template.read_text(encoding="utf-8")
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        yield path.replace("__name__", name), text
    if (origin := headrace_origin()) is not None:
        yield _LOCAL, f"# Where headrace was installed from, for this machine alone.\nHEADRACE := {origin}\n"


def _templates(folder: Traversable, above: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            yield from _templates(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            name = entry.name.removesuffix(_SUFFIX)
            # Files whose name begins with a dot mean something to the tools of this repository.
            yield above + (f".{name.removeprefix('dot-')}" if name.startswith("dot-") else name), entry


def headrace_origin() -> str | None:
    """What installs this very headrace; None where an index has it (PEP 610 says so by silence)."""
    written = distribution("headrace").read_text("direct_url.json")
    if written is None:
        return None
    origin: Mapping[str, Any] = json.loads(written)
    url = str(origin["url"])
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    return f"headrace @ {url}".replace("$", "$$")
