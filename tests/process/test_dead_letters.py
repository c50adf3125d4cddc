"""`dead-letters` as people and scripts use it, on an embedded log."""

import json
from pathlib import Path
from typing import Any

from headrace.flow.deadletter import Letter, dead_letters_name
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import Append, TopicSpec
from tests.process.test_command_line import Shell


def letter(offset: int, value: bytes | None, **changed: Any) -> Letter:
    """An event that `add_up` of the service `svc` refused."""
    facts: dict[str, Any] = {
        "key": b"a",
        "value": value,
        "headers": (("trace", b"t-1"), ("raw", b"\xff\x00")),
        "topic": "svc.numbers",
        "partition": 0,
        "offset": offset,
        "timestamp_ms": 1_700_000_000_000,
        "group": "main",
        "agent": "add_up",
        "error": "HandlerError",
        "reason": "n is missing\nin the object",
        "at_ms": 1_700_000_001_000 + offset,
    }
    return Letter(**(facts | changed))


async def broken_service(folder: Path) -> Shell:
    """A service with three dead letters."""
    shell = Shell(folder)
    assert (await shell.headrace("topics", "--create")).status == 0
    log = EmbeddedLog(folder / ".headrace" / "log.db")
    await log.open()
    await log.provision([TopicSpec(name=dead_letters_name("svc"), partitions=2)])
    writer = await log.writer("task")
    letters = [
        letter(0, b'{"type": "Counted", "n": 1}'),
        letter(1, b"\x00\xff", agent="", error="DecodeError"),
        letter(2, None),
    ]
    records = [(each.key, each.value, each.to_headers(), each.at_ms) for each in letters]
    await writer.commit([Append(dead_letters_name("svc"), 0, records)])
    await writer.close()
    await log.close()
    return shell


def objects(lines: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


async def test_dead_letters_are_listed_shown_and_replayed_once(tmp_path: Path) -> None:
    shell = await broken_service(tmp_path)
    listed = await shell.headrace("dead-letters", "list")
    assert listed.status == 0
    head, *rows = listed.out.splitlines()
    assert head.split() == ["PLACE", "AT", "SOURCE", "AGENT", "ERROR", "REASON", "REPLAYED"]
    assert [row.split()[0] for row in rows] == ["0:0", "0:1", "0:2"]
    chosen = await shell.headrace("dead-letters", "list", "--error", "DecodeError", "--json")
    assert [row["place"] for row in objects(chosen.out)] == ["0:1"]
    newest = await shell.headrace("dead-letters", "list", "--limit", "2", "--json")
    assert [row["place"] for row in objects(newest.out)] == ["0:1", "0:2"]
    assert objects((await shell.headrace("dead-letters", "list", "--since", "1h", "--json")).out) == []

    dry = await shell.headrace("dead-letters", "replay", "--all", "--dry-run", "--json")
    assert (dry.status, dry.json()["replayed"]) == (0, 3)
    one = await shell.headrace("dead-letters", "replay", "0:0")
    assert (one.status, one.out) == (0, "replayed: 1\n")
    rest = await shell.headrace("dead-letters", "replay", "--all", "--json")
    assert (rest.json()["replayed"], rest.json()["already_replayed"]) == (2, ["0:0"])
    assert (await shell.headrace("dead-letters", "replay", "--all")).out.startswith("replayed: 0\n")
    counted = await shell.headrace("dead-letters", "list", "--json")
    assert [row["replayed"] for row in objects(counted.out)] == [1, 1, 1]


async def test_one_dead_letter_is_shown_whole(tmp_path: Path) -> None:
    shell = await broken_service(tmp_path)
    good = (await shell.headrace("dead-letters", "show", "0:0", "--json")).json()
    assert good["key"] == {"text": "a"}
    assert good["value"] == {"text": '{"type": "Counted", "n": 1}'}
    assert good["decoded"] == {"type": "Counted", "n": 1}
    assert good["headers"] == [{"name": "trace", "text": "t-1"}, {"name": "raw", "hex": "ff00"}]
    assert (good["source"], good["reason"]) == ("svc.numbers 0:0", "n is missing\nin the object")
    bad = await shell.headrace("dead-letters", "show", "0:1")
    assert bad.status == 0
    for sentence in ("hex 00ff", "every agent of the topic", "DecodeError", "header    trace: t-1"):
        assert sentence in bad.out
    tombstone = (await shell.headrace("dead-letters", "show", "0:2", "--json")).json()
    assert (tombstone["value"], tombstone["undecodable"]) == (None, "a tombstone has no value")


async def test_what_is_not_there_or_not_said_right_is_told_apart(tmp_path: Path) -> None:
    shell = await broken_service(tmp_path)
    absent = await shell.headrace("dead-letters", "show", "0:99", "--json")
    assert (absent.status, absent.json()) == (1, None)
    named = await shell.headrace("dead-letters", "replay", "0:99")
    assert (named.status, "not there: 1: 0:99" in named.out) == (1, True)
    misuses = [
        (("replay",), "--all"),
        (("replay", "0:1", "--all"), "--all"),
        (("show", "17"), "PARTITION:OFFSET"),
        (("list", "--since", "yesterday"), "ISO 8601"),
        (("list", "--limit", "0"), "--limit"),
    ]
    for arguments, sentence in misuses:
        ended = await shell.headrace("dead-letters", *arguments)
        assert (ended.status, sentence in ended.err) == (2, True), (arguments, ended)


async def test_a_repaired_agent_gets_its_dead_letters_beside_a_running_worker_each_once(
    tmp_path: Path,
) -> None:
    shell = Shell(tmp_path)
    repaired = (tmp_path / "svc.py").read_text()
    line = "        totals[event.key] += event.value.n\n"
    assert line in repaired
    broken = repaired.replace(line, f"        assert event.value.n < 10, 'too large'\n{line}")
    (tmp_path / "svc.py").write_text(broken)
    async with shell.worker():
        for n in (1, 10, 2, 20):
            await shell.sent("a", n)
        await shell.becomes("a", "3")
        while len(refused := objects((await shell.headrace("dead-letters", "list", "--json")).out)) < 2:
            pass
    assert {(row["agent"], row["topic"], row["error"]) for row in refused} == {
        ("add_up", "svc.numbers", "AssertionError")
    }
    shown = (await shell.headrace("dead-letters", "show", refused[0]["place"], "--json")).json()
    assert shown["decoded"] == {"type": "Counted", "n": 10}
    assert "too large" in shown["reason"]

    (tmp_path / "svc.py").write_text(repaired)
    async with shell.worker():
        replayed = await shell.headrace("dead-letters", "replay", "--all", "--json")
        assert replayed.json()["replayed"] == 2
        await shell.becomes("a", "33")
        again = await shell.headrace("dead-letters", "replay", "--all", "--json")
        assert (again.json()["replayed"], len(again.json()["already_replayed"])) == (0, 2)
        await shell.sent("a", 100)
        await shell.becomes("a", "133")
    assert (await shell.headrace("verify")).status == 0
