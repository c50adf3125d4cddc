"""The reference says what the code says."""

import re
from pathlib import Path

from headrace import errors
from headrace.configuration import TYPES
from headrace.events.envelope import HEADER, Envelope, encode_cloudevent
from headrace.events.trace import PARENT, STATE
from headrace.flow.deadletter import Letter
from tests.reference_pages import REFERENCE, ROOT, attribute_docs, error_tree, renewed


def named_headers(heading: str) -> set[str]:
    """What the first column of a table under a heading of headers.md names."""
    text = (REFERENCE / "headers.md").read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name.partition(":")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_generated_tables_are_those_of_the_code() -> None:
    """After a change of settings, metrics or errors: `make docs` writes them anew."""
    for page in sorted(REFERENCE.glob("*.md")):
        text = page.read_text("utf-8")
        assert renewed(text) == text, f"{page.name} is out of date: run `make docs`"


def test_every_setting_has_a_sentence() -> None:
    docs = attribute_docs(ROOT / "headrace" / "settings.py", "Settings")
    assert [name for name in TYPES if not docs.get(name, "").endswith(".")] == []


def test_every_error_is_in_the_tree_at_the_top_of_its_module() -> None:
    drawn = set(
        re.findall(
            r"^ *([A-Z]\w+)",
            (ROOT / "headrace" / "errors" / "__init__.py").read_text("utf-8").split('"""')[1],
            re.M,
        )
    )
    assert set(errors.__all__) == {cls.__name__ for cls, _ in error_tree()} <= drawn


def test_the_record_headers_are_those_that_are_written() -> None:
    one = b"\1" * 16
    letter = Letter(
        key=None, value=None, headers=(), topic="t", partition=0, offset=0, timestamp_ms=0, group="main",
        agent="a", error="DecodeError", reason="r", at_ms=0,
    )  # fmt: skip
    cloud = encode_cloudevent(Envelope(one, 0, one, one, b"x"), source="/app", type_name="T")
    written = {
        HEADER,
        PARENT,
        STATE,
        "headrace-dead-letter",
        *(name for name, _ in (*letter.to_headers(), *cloud)),
    }
    assert named_headers("Of records in the log") == written


def test_the_http_headers_are_in_the_code_and_headraces_own_are_in_the_reference() -> None:
    code = "".join(file.read_text("utf-8") for file in sorted((ROOT / "headrace").rglob("*.py"))).lower()
    named = named_headers("Of HTTP requests") | named_headers("Of HTTP answers")
    assert [name for name in named if f'"{name.lower()}"' not in code] == []
    http = "".join(file.read_text("utf-8") for file in Path(ROOT / "headrace" / "http").glob("*.py"))
    own = {name.lower() for name in re.findall(r'(?:b"|\[")(headrace-[a-z-]+)"', http, re.IGNORECASE)}
    text = (REFERENCE / "headers.md").read_text("utf-8").lower()
    assert [name for name in sorted(own) if name not in text] == []
