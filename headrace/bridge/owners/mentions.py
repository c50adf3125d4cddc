"""Which tables a statement reads and writes: parsed by sqlglot, or guessed by its words where that fails."""

import logging
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from headrace.bridge.owners.finding import Touch

HOLE = "__hole__"
"""Stands for what is put into a statement at run time."""

_DIALECTS = ("postgres", "sqlite")
_VERBS = (
    "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "CREATE", "ALTER", "DROP", "TRUNCATE", "COPY",
    "LOCK", "REPLACE", "EXPLAIN", "DECLARE", "VACUUM", "ANALYZE", "REFRESH", "CLUSTER", "DO",
)  # fmt: skip
_NOT_BEGUN = r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*\(?\s*"
_BEGINS = re.compile(_NOT_BEGUN + rf"(?:{'|'.join(_VERBS)})\b", re.IGNORECASE | re.DOTALL)
_PART = r'(?:"[^"]+"|[\w$]+)'
_NAMED = re.compile(
    r"\b(FROM|JOIN|USING|REFERENCES|INTO|UPDATE(?:\s+ONLY)?|COPY|TRUNCATE(?:\s+TABLE)?|"
    r"(?:LOCK|ALTER|DROP|CREATE)\s+TABLE(?:\s+IF(?:\s+NOT)?\s+EXISTS)?)"
    rf"\s+({_PART}(?:\.{_PART})?)",
    re.IGNORECASE,
)
_DELETING = re.compile(r"\bDELETE\s+$", re.IGNORECASE)
_READING = ("FROM", "JOIN", "USING", "REFERENCES")
_PYFORMAT = re.compile(r"%\(\w+\)s|%s")

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of what it takes as it is


class Mention(NamedTuple):
    """How a statement touches a table."""

    touch: Touch
    is_certain: bool
    """False: it looks like it, or its name is put together at run time."""


def names(asked: str, written: str) -> bool:
    """Whether a table that is `written` in a statement can be the one that is asked for."""
    schema, _, name = asked.casefold().rpartition(".")
    written_schema, _, written_name = written.casefold().rpartition(".")
    if schema and written_schema and not _fits(schema, written_schema):
        return False
    return _fits(name, written_name)


def mentions(statement: str, asked: str) -> Mention | None:
    """How SQL text touches a table; None if it does not."""
    if not _may_mention(statement, asked):
        return None
    touch, is_certain = Touch.UNTOLD, False
    tables, is_parsed = touched(statement)
    for written, how in tables.items():
        # A sentence of a log, such as f"from {a} to {b}", is no statement on tables with any name.
        if names(asked, written) and (is_parsed or HOLE not in written):
            touch |= how
            is_certain |= is_parsed and HOLE not in written
    return Mention(touch, is_certain) if touch else None


def looks_like_sql(text: str) -> bool:
    """Whether a text begins as a statement does."""
    return _BEGINS.match(text) is not None


def word(asked: str) -> re.Pattern[str]:
    """Finds the name of a table as a word of its own."""
    return re.compile(rf"(?<![\w$]){re.escape(asked.rpartition('.')[2])}(?![\w$])", re.IGNORECASE)


@lru_cache(maxsize=4_096)
def touched(statement: str) -> tuple[Mapping[str, Touch], bool]:
    """The tables of a statement by the names that it has for them, and whether it could be parsed."""
    if looks_like_sql(statement):
        text = _PYFORMAT.sub("NULL", statement).replace("%%", "%")
        for dialect in _DIALECTS:
            try:
                trees = sqlglot.parse(text, dialect=dialect)
            except (SqlglotError, RecursionError):
                continue
            if all(tree is None or _is_whole(tree) for tree in trees):
                return _of(trees), True
    return _guessed(statement), False


def _is_whole(tree: exp.Expr) -> bool:
    """Not so for what the parser takes as it is, and for a sentence that begins with `update`."""
    if isinstance(tree, exp.Update) and not tree.expressions:
        return False
    return not isinstance(tree, exp.Command)


def _of(trees: list[exp.Expr | None]) -> dict[str, Touch]:
    found: dict[str, Touch] = {}
    for tree in trees:
        if tree is None:
            continue
        made = {each.alias_or_name.casefold() for each in tree.find_all(exp.CTE)}
        for table in tree.find_all(exp.Table):
            if not table.name or (not table.db and table.name.casefold() in made):
                continue
            name = f"{table.db}.{table.name}" if table.db else table.name
            found[name] = found.get(name, Touch.UNTOLD) | _touch(table)
    return found


def _touch(table: exp.Table) -> Touch:
    """What the statement does with a table, by its place in it."""
    place: exp.Expr = table
    while isinstance(place.parent, exp.Schema) and place.arg_key == "this":
        place = place.parent
    parent, key = place.parent, place.arg_key
    match parent:
        case exp.Copy() if key == "this":
            return Touch.WRITE if parent.args.get("kind") else Touch.READ
        case exp.Insert() | exp.Update() | exp.Delete() | exp.Merge() | exp.Create() | exp.Alter():
            return Touch.WRITE if key == "this" else Touch.READ
        case exp.Drop() | exp.TruncateTable() | exp.Grant() | exp.Index() | exp.TriggerProperties():
            return Touch.WRITE
        case _:
            return Touch.READ


def _guessed(text: str) -> dict[str, Touch]:
    found: dict[str, Touch] = {}
    for match in _NAMED.finditer(text):
        is_read = match[1].upper() in _READING and not _DELETING.search(text[: match.start()])
        name = match[2].replace('"', "")
        found[name] = found.get(name, Touch.UNTOLD) | (Touch.READ if is_read else Touch.WRITE)
    return found


def _fits(asked: str, written: str) -> bool:
    if HOLE not in written:
        return asked == written
    pattern = r"\w*".join(re.escape(part) for part in written.split(HOLE))
    return re.fullmatch(pattern, asked) is not None


def _may_mention(statement: str, asked: str) -> bool:
    """Sorts out cheaply what names neither the table nor one that is put together at run time."""
    return HOLE in statement or word(asked).search(statement) is not None


def statements(text: str) -> Iterator[tuple[int, str]]:
    """The statements of a script, each with the number of its first line."""
    try:
        tokens = sqlglot.tokenize(text, dialect="postgres")
    except SqlglotError:
        # Something of a shell or a template: line by line there is still something to be seen.
        yield from enumerate(text.splitlines(), start=1)
        return
    first = None
    for token in tokens:
        if token.token_type is sqlglot.TokenType.SEMICOLON:
            if first is not None:
                yield first.line, text[first.start : token.start]
            first = None
        elif first is None:
            first = token
    if first is not None:
        yield first.line, text[first.start :]
