"""Errors for people who have to do something about them: what, where, and what next."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import errors
from headrace.errors import HeadraceError, TopicMismatch

PACKAGE = Path(errors.__file__).parent
ALL = {
    name: cls
    for name, cls in vars(errors).items()
    if isinstance(cls, type) and issubclass(cls, HeadraceError)
}
WITHOUT_HINT = {"HeadraceError", "TableError", "PositionError"}
"""Too general to say what to do next; whoever raises one says it."""


@pytest.mark.parametrize("name", sorted(ALL.keys() - WITHOUT_HINT))
def test_every_error_says_what_to_do_next_in_a_sentence(name: str) -> None:
    hint = ALL[name].hint
    assert hint, name
    assert hint[0].isupper() or hint[0] == "`"
    assert hint.endswith(".")


def raised() -> Iterator[tuple[str, ast.Call]]:
    """Where errors of the tree are made, and how."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ALL:
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}", node


def test_whoever_raises_a_general_error_says_what_to_do_next() -> None:
    silent = [
        place
        for place, call in raised()
        if ast.unparse(call.func).rpartition(".")[2] in WITHOUT_HINT
        and not any(keyword.arg == "hint" for keyword in call.keywords)
    ]
    assert silent == []


def test_what_happened_ends_without_a_full_stop_so_that_place_and_hint_follow_it() -> None:
    broken = []
    for place, call in raised():
        what = call.args[0] if call.args else None
        is_text = isinstance(what, ast.Constant) and isinstance(what.value, str)
        if is_text and str(what.value).endswith((".", "!")):  # type: ignore[union-attr]
            broken.append(place)
    assert broken == []


def test_an_error_reads_as_what_where_and_what_next() -> None:
    error = TopicMismatch("it does not exist", topic="orders", partition=3, hint="Create it.")
    assert str(error) == "it does not exist (topic orders, partition 3). Create it."
    assert str(HeadraceError("it broke")) == "it broke"
