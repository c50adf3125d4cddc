"""Which tables and topics a function's code names: what is drawn between the boxes of the whiteboard."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, TypeVar

from headrace.flow.topic import Topic
from headrace.tables.table import Table

T = TypeVar("T")

_OBJECTS_MAX = 500
_DEPTH_MAX = 4
_FUNCTIONS_CACHED = 1_024
"""An app that is run again, as tests do, is not read again."""
_WRITING = frozenset({"pop", "setdefault", "discard"})
_OURS = ("headrace", "faust", "mode")


class References(NamedTuple):
    """Names of tables and topics."""

    reads: tuple[str, ...]
    """Tables that are named and not written."""
    writes: tuple[str, ...]
    topics: tuple[str, ...]


def references(function: Callable[..., Any]) -> References:
    """What this function names, itself or through functions and objects of the app that it uses.

    Read from the code, never by running it: what is reached through a variable that is set at run
    time is not found.
    """
    tables: dict[str, set[str]] = {}
    """By the table's own name those that the code has for it."""
    writing: set[str] = set()
    topics: dict[str, None] = {}
    for thing, names in _reached(function, (Table, Topic)):
        if isinstance(thing, FunctionType) and _is_function_of_the_app(thing):
            writing |= _written_names(thing.__code__)
        for name, found in names:
            if isinstance(found, Table):
                tables.setdefault(found.name, set()).add(name)
            elif isinstance(found, Topic):
                topics[found.name] = None
    written = [name for name, known in tables.items() if known & writing]
    return References(tuple(name for name in tables if name not in written), tuple(written), tuple(topics))


def named(function: Callable[..., Any], kind: type[T]) -> list[T]:
    """The objects of a kind that a function names, found as `references` finds tables."""
    found = (thing for _, names in _reached(function, (kind,)) for _, thing in names)
    return list({id(thing): thing for thing in found if isinstance(thing, kind)}.values())


def writes(function: Callable[..., Any], table: Table[Any, Any]) -> bool:
    """Whether the code of this very function is seen to write a table; what it calls is not looked into."""
    if not isinstance(function, FunctionType):
        return False
    known = dict(_resolved(function))
    return any(
        _value_of(parts, known) is table for parts in _written_in_source(function.__code__) or frozenset()
    )


def _reached(
    function: Callable[..., Any], ends: tuple[type, ...]
) -> Iterator[tuple[Any, Sequence[tuple[str, Any]]]]:
    """The function, and what it uses of the app, each with all that it names; not looked into: `ends`."""
    seen: set[int] = set()
    waiting: list[tuple[Any, int]] = [(function, 0)]
    while waiting and len(seen) < _OBJECTS_MAX:
        thing, depth = waiting.pop(0)
        if id(thing) in seen or depth > _DEPTH_MAX:
            continue
        seen.add(id(thing))
        names = list(_named_by(thing))
        yield thing, names
        waiting += [(found, depth + 1) for _, found in names if not isinstance(found, ends)]


def _named_by(thing: Any) -> Iterator[tuple[str, Any]]:
    """Names that a function's code resolves, or the attributes of an object of the app."""
    if isinstance(thing, MethodType):
        yield "", thing.__func__
        yield "", thing.__self__
    elif isinstance(thing, FunctionType):
        if _is_function_of_the_app(thing):
            yield from _resolved(thing)
    elif not isinstance(thing, (type, ModuleType)) and _is_of_the_app(type(thing).__module__, ""):
        yield from getattr(thing, "__dict__", {}).items()
        # Which method is called cannot be told from here: any of them may be.
        yield from (
            (name, part) for name, part in vars(type(thing)).items() if isinstance(part, FunctionType)
        )


def _resolved(function: FunctionType) -> Iterator[tuple[str, Any]]:
    names = dict.fromkeys(_names(function.__code__))
    known = dict(function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            known[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in names:
        if name not in known:
            continue
        found = known[name]
        if isinstance(found, ModuleType):
            # Modules are looked into only for what the code names besides: `tables.balances`.
            yield from ((part, vars(found)[part]) for part in names if part in vars(found))
        else:
            yield name, found
    if wrapped := getattr(function, "__wrapped__", None):
        yield "", wrapped


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _written_names(code: CodeType) -> frozenset[str]:
    """Names of what the code writes; without source (typed in, or part of an expression) it may be any."""
    written = _written_in_source(code)
    return frozenset(_names(code)) if written is None else frozenset(parts[-1] for parts in written)


@lru_cache(maxsize=_FUNCTIONS_CACHED)
def _written_in_source(code: CodeType) -> frozenset[tuple[str, ...]] | None:
    """Dotted names that stand before an assigned or deleted `[...]`, or before a call that writes."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError):
        return None
    written = set()
    for node in ast.walk(tree):
        target: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            target = node.value
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _WRITING
        ):
            target = node.func.value
        if parts := _dotted(target):
            written.add(parts)
    return frozenset(written)


def _dotted(target: ast.expr | None) -> tuple[str, ...]:
    """The parts of a dotted name; an empty first one where it begins with something else."""
    if isinstance(target, ast.Name):
        return (target.id,)
    if isinstance(target, ast.Attribute):
        return (*(_dotted(target.value) or ("",)), target.attr)
    return ()


def _value_of(parts: tuple[str, ...], known: Mapping[str, Any]) -> Any:
    """What a dotted name stands for, looked up without running anything; None if unknown."""
    found = known.get(parts[0])
    for part in parts[1:]:
        found = inspect.getattr_static(found, part, None)
    return found


def _is_function_of_the_app(function: FunctionType) -> bool:
    return _is_of_the_app(function.__module__, function.__code__.co_filename)


def _is_of_the_app(module: str | None, filename: str) -> bool:
    first = (module or "").partition(".")[0]
    return first not in sys.stdlib_module_names and first not in _OURS and "site-packages" not in filename
