"""The tables of docs/reference, made from the code: `make docs` writes them, a test compares."""

import ast
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from headrace import errors
from headrace.configuration import TYPES
from headrace.errors import HeadraceError
from headrace.http.metric import METRICS
from headrace.http.problems import problem_of
from headrace.settings import Settings

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
_PART = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def sentences(text: str) -> str:
    """A docstring as running text with Markdown's code marks."""
    return " ".join(text.split())


def attribute_docs(file: Path, class_name: str) -> dict[str, str]:
    """The docstrings behind the attributes of a class."""
    module = ast.parse(file.read_text("utf-8"))
    body = next(n for n in module.body if isinstance(n, ast.ClassDef) and n.name == class_name).body
    docs = {}
    for field, after in pairwise(body):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            docs[field.target.id] = sentences(ast.literal_eval(ast.unparse(after)))
    return docs


def shown_default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "" if value in ("", ()) else f"`{value}`"


def settings() -> str:
    docs = attribute_docs(ROOT / "headrace" / "settings.py", "Settings")
    default = Settings()
    return table(
        ("Setting", "Default", "Meaning"),
        ([f"`HEADRACE_{n.upper()}`", shown_default(getattr(default, n)), docs[n]] for n in TYPES),
    )


def metrics() -> str:
    return table(
        ("Name", "Kind", "Unit", "Labels", "Meaning"),
        (
            [f"`{m.name}`", m.kind.value, m.unit, ", ".join(f"`{label}`" for label in m.labels), m.sentence]
            for m in METRICS
        ),
    )


def error_tree() -> Iterator[tuple[type[HeadraceError], int]]:
    """Every error under its parent, in the order of the file."""

    def below(cls: type[HeadraceError], depth: int) -> Iterator[tuple[type[HeadraceError], int]]:
        yield cls, depth
        for child in cls.__subclasses__():
            if child.__module__.startswith(f"{errors.__name__}."):
                yield from below(child, depth + 1)

    return below(HeadraceError, 0)


def error_table() -> str:
    rows = []
    for cls, depth in error_tree():
        problem = problem_of(cls("what happened"))
        rows.append(
            [
                "&nbsp;&nbsp;" * depth + f"`{cls.__name__}`",
                sentences(cls.__doc__ or "").partition(" Raises:")[0],
                sentences(cls.hint),
                "yes" if cls.is_recoverable else "",
                str(problem.status),
            ]
        )
    return table(("Error", "Meaning", "What to do next", "Taken over again", "HTTP"), rows)


PARTS: dict[str, Callable[[], str]] = {"settings": settings, "metrics": metrics, "errors": error_table}


def renewed(text: str) -> str:
    """A page with its generated parts as the code has them now."""
    return _PART.sub(lambda part: part[1] + PARTS[part[2]]() + "\n" + part[3], text)


def main() -> None:
    """Write the generated parts of every reference page anew."""
    # What an error answers over HTTP is asked of the code that logs it.
    logging.disable()
    for page in REFERENCE.glob("*.md"):
        page.write_text(renewed(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
