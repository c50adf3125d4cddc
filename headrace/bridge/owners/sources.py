"""The SQL in source folders: string literals of Python, scripts, and mere words of other languages."""

import ast
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from headrace.bridge.owners.finding import Finding, Found, Kind, Touch, Whose
from headrace.bridge.owners.mentions import HOLE, Mention, mentions, names, statements, word

_OTHERS = frozenset(
    {
        ".java", ".kt", ".kts", ".scala", ".groovy", ".clj", ".go", ".rs", ".c", ".cc", ".cpp", ".h", ".hpp",
        ".cs", ".fs", ".vb", ".swift", ".dart", ".rb", ".erb", ".php", ".pl", ".pm", ".lua", ".r", ".jl",
        ".ex", ".exs", ".erl", ".hs", ".ts", ".tsx", ".js", ".jsx", ".mjs", ".cjs", ".vue", ".sh", ".bash",
        ".ps1", ".xml", ".yml", ".yaml", ".toml", ".prisma", ".ipynb", ".j2", ".jinja", ".jinja2", ".tmpl",
        ".hbs",
    }
)  # fmt: skip
"""Languages whose sources are searched for the mere name of a table."""
_SCRIPTS = frozenset({".sql", ".psql", ".ddl", ".pgsql"})
_FOLDERS_LEFT_OUT = frozenset({"node_modules", "__pycache__", "site-packages", "venv"})
_BYTES_MAX = 4_000_000
_SHOWN_CHARACTERS = 100
_DEPTH_MAX = 200
_PERCENT = re.compile(r"%(?:\(\w+\))?[sdr]")
_BRACES = re.compile(r"\{[^{}]*\}")


class Text(NamedTuple):
    """A text in a source that may be SQL."""

    line: int
    text: str
    is_bare: bool = False
    """Whether it is one literal: a table's name by itself counts then."""


def scan(folders: Sequence[Path], tables: Sequence[str], own: frozenset[Path], found: Found) -> None:
    """Find where sources read and write these tables; `own` are files of the app itself.

    Hidden folders, and those of installed packages, are left out; a file may stand for a folder.
    """
    for file in dict.fromkeys(file for folder in folders for file in _files(folder)):
        whose = Whose.APP if file.resolve() in own else Whose.OTHER
        shown = os.path.relpath(file)
        try:
            hits = list(_of_file(file.suffix.lower(), _read(file), tables))
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            found.not_seen.append(f"the SQL in {shown}, which cannot be read: {error}")
            continue
        for table, line, mention, what in hits:
            counted = whose if mention.is_certain or whose is Whose.APP else Whose.UNCLEAR
            found.add([Finding(table, Kind.SOURCE, f"{shown}:{line}", mention.touch, counted, what)])


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    for at, below, files in os.walk(folder):
        below[:] = sorted(n for n in below if not n.startswith(".") and n not in _FOLDERS_LEFT_OUT)
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in _OTHERS | _SCRIPTS | {".py"}:
                yield Path(at, name)


def _read(file: Path) -> str:
    if file.stat().st_size > _BYTES_MAX:
        raise ValueError(f"larger than {_BYTES_MAX:,} bytes")
    return file.read_text("utf-8")


_Hit = tuple[str, int, Mention, str]


def _of_file(suffix: str, text: str, tables: Sequence[str]) -> Iterator[_Hit]:
    """Table, line, how it is touched, and what is written there."""
    wanted = [name for name in tables if suffix == ".py" or word(name).search(text)]
    if not wanted:
        return
    if suffix == ".py":
        yield from _of_python(text, wanted)
    elif suffix in _SCRIPTS:
        for line, statement in statements(text):
            yield from _of_text(Text(line, statement), wanted)
    else:
        for line, words in enumerate(text.splitlines(), start=1):
            for name in wanted:
                if word(name).search(words):
                    yield name, line, Mention(Touch.UNTOLD, is_certain=False), excerpt(words)


def _of_python(text: str, tables: Sequence[str]) -> Iterator[_Hit]:
    for found in _Literals.of(text):
        yield from _of_text(found, tables)


def _of_text(found: Text, tables: Sequence[str]) -> Iterator[_Hit]:
    for name in tables:
        mention = mentions(found.text, name)
        if mention is None and found.is_bare and HOLE not in found.text and names(name, found.text):
            # `copy_in("balances", ...)`, `__tablename__ = "balances"`: what is done there cannot be told.
            mention = Mention(Touch.UNTOLD, is_certain=False)
        if mention is not None:
            yield name, found.line, mention, excerpt(found.text)


def excerpt(text: str) -> str:
    """A statement on one line, cut to a length that people read."""
    line = " ".join(text.replace(HOLE, "{}").split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 3]}..."


class _Literals:
    """The texts of a module, put together where the code does; what it does not tell is a hole."""

    def __init__(self, constants: Mapping[str, str]) -> None:
        self._constants = constants

    @classmethod
    def of(cls, source: str) -> Iterator[Text]:
        """Every text but docstrings. Raises: SyntaxError."""
        tree = ast.parse(source)
        literals = cls({})
        constants: dict[str, str] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                value = literals._text(node.value)
                for target in targets:
                    if isinstance(target, ast.Name) and value is not None:
                        constants[target.id] = value
                literals = cls(constants)
        yield from literals._below(tree)

    def _below(self, node: ast.AST) -> Iterator[Text]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue  # a docstring
            text = None
            if isinstance(child, ast.expr) and not isinstance(child, ast.Name):
                text = self._text(child)
                if text is not None:
                    yield Text(child.lineno, text, is_bare=isinstance(child, ast.Constant))
            if text is None:
                yield from self._below(child)

    def _text(self, node: ast.expr, depth: int = 0) -> str | None:
        """What an expression is as text; None for what is none."""
        if depth > _DEPTH_MAX:
            return None
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Constant(value=bytes(raw)):
                return raw.decode("utf-8", "replace")
            case ast.Name(id=name):
                return self._constants.get(name)
            case ast.JoinedStr(values=values):
                return "".join(self._part(part, depth) for part in values)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                first, second = self._text(left, depth + 1), self._text(right, depth + 1)
                if first is None and second is None:
                    return None
                return (HOLE if first is None else first) + (HOLE if second is None else second)
            case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod()):
                return _PERCENT.sub(HOLE, text)
            case ast.Call(func=ast.Attribute(value=value, attr="format")):
                formatted = self._text(value, depth + 1)
                return None if formatted is None else _BRACES.sub(HOLE, formatted)
            case _:
                return None

    def _part(self, node: ast.expr, depth: int) -> str:
        if isinstance(node, ast.FormattedValue):
            known = self._text(node.value, depth + 1)
            return HOLE if known is None else known
        return self._text(node, depth + 1) or ""
