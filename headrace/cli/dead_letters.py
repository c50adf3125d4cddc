"""`dead-letters`: what could not be handled, why, and once more to the agent that refused it."""

import re
import time
from collections import deque
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, ClassVar

import click
import msgspec

from headrace.cli.command import Command, CommandGroup, ExitStatus, argument, option
from headrace.cli.layout import find_layout
from headrace.cli.letters import FoundLetter, LetterPlace, Selection, find_letters, find_replayed
from headrace.cli.replay import Replay
from headrace.errors import DecodeError
from headrace.events.envelope import decode_envelope, id_text
from headrace.flow.deadletter import Letter, replay_name
from headrace.log.port import Log

_GROUP = CommandGroup("dead-letters", "List the events that were refused, show one, or replay them.")
_COLUMNS = ("place", "at", "source", "agent", "error", "reason", "replayed")
_REASON_CHARS_MAX = 60
_SHOWN_PLACES_MAX = 5
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _Place(click.ParamType):
    name = "partition:offset"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LetterPlace:
        if not re.fullmatch(r"\d{1,9}:\d{1,18}", str(value)):
            self.fail(f"{value!r} is not PARTITION:OFFSET, as `dead-letters list` shows it", param, ctx)
        partition, _, offset = str(value).partition(":")
        return LetterPlace(int(partition), int(offset))


class _Since(click.ParamType):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds since the epoch."""
        if match := re.fullmatch(r"(\d{1,9})([smhd])", str(value)):
            return round((time.time() - int(match[1]) * _UNITS_S[match[2]]) * 1000)
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is neither like 90s, 15m, 2h or 7d nor an ISO 8601 time", param, ctx)
        # Without an offset a time is one of this machine's.
        return round(moment.timestamp() * 1000)


_FILTERS = [
    option("--agent", default="", show_default=False, help="Refused by this agent."),
    option("--topic", default="", show_default=False, help="From this topic."),
    option(
        "--error",
        default="",
        show_default=False,
        help="With this error: DecodeError, KeyError.",
    ),
    option("--since", type=_Since(), default=None, show_default=False, help="Refused since: 2h, or a time."),
]
_LIMIT = click.IntRange(min=1)


class _LettersCommand(Command):
    abstract: ClassVar[bool] = True
    command_group = _GROUP

    def selection(self, places: tuple[LetterPlace, ...] = ()) -> Selection:
        """What places and filters of the command line say."""
        return Selection(
            places=frozenset(places),
            agent=self.kwargs.get("agent", ""),
            topic=self.kwargs.get("topic", ""),
            error=self.kwargs.get("error", ""),
            since_ms=self.kwargs.get("since") or 0,
        )

    def replay_inputs(self) -> list[str]:
        """The replay inputs of the app's groups."""
        declared = self.declared_app.declarations
        return [replay_name(declared.app_id, name) for name in {agent.group for agent in declared.agents}]


class List(_LettersCommand):
    """List dead letters, newest last, and which of them were replayed; --json writes one object a line."""

    example = "-A app.shop dead-letters list --since 2h"
    options = [
        *_FILTERS,
        option("--limit", type=_LIMIT, default=100, help="The newest ones, at most so many."),
    ]

    async def answer(self) -> ExitStatus:
        """One row per letter."""
        app = self.declared_app.declarations.app_id
        newest: deque[FoundLetter] = deque()
        async with self.open_log(self.settings()) as log:
            replayed = await find_replayed(log, app, self.replay_inputs())
            async with aclosing(find_letters(log, app, self.selection())) as letters:
                async for found in letters:
                    newest.append(found)
                    if len(newest) >= 2 * self.kwargs["limit"]:
                        newest = self._newest(newest)
        rows = [_row(found, replayed.get(found.place, 0)) for found in self._newest(newest)]
        if self.json:
            for row in rows:
                self.show_json(row)
        else:
            self.show(_COLUMNS, [row | {"at": row["at"][:19], "reason": _cut(row["reason"])} for row in rows])
        return ExitStatus.YES

    def _newest(self, letters: deque[FoundLetter]) -> deque[FoundLetter]:
        in_order = sorted(letters, key=lambda found: (found.letter.at_ms, found.place))
        return deque(in_order[-self.kwargs["limit"] :])


class Show(_LettersCommand):
    """Show one dead letter whole: source, reason, key, value and headers; exit status 1 if there is none.

    Bytes are shown as text where they are text, else as hexadecimal digits; DECODED is what the
    topic's type makes of the value today.
    """

    example = "-A app.shop dead-letters show 0:17"
    options = [argument("place", type=_Place())]

    async def answer(self) -> ExitStatus:
        """Everything that is known of it."""
        app = self.declared_app.declarations.app_id
        place: LetterPlace = self.kwargs["place"]
        async with self.open_log(self.settings()) as log:
            found = await _one(log, app, place)
            replayed = await find_replayed(log, app, self.replay_inputs()) if found else {}
        if found is None:
            told = f"there is no dead letter {place}; `dead-letters list` shows those that are there"
            click.echo(f"headrace: {told}", err=True)
            if self.json:
                self.show_json(None)
            return ExitStatus.NO
        whole = _row(found, replayed.get(place, 0)) | _contents(found.letter) | self._decoded(found.letter)
        if self.json:
            self.show_json(whole)
        else:
            _write(whole)
        return ExitStatus.YES

    def _decoded(self, letter: Letter) -> dict[str, Any]:
        topic = self.declared_app.declarations.topics.get(letter.topic)
        if topic is None:
            return {"decoded": None, "undecodable": f"the app does not declare topic {letter.topic}"}
        if letter.value is None:
            return {"decoded": None, "undecodable": "a tombstone has no value"}
        try:
            return {"decoded": topic.values.decoded(letter.value), "undecodable": None}
        except DecodeError as error:
            return {"decoded": None, "undecodable": error.what}


class ReplayLetters(_LettersCommand):
    """Put dead letters back before the agents that refused them: those named, or --all with filters.

    A replayed event comes after everything its agent has seen since: out of order. What was
    replayed before is left out, so a replay that was interrupted can be run again; --again takes it
    once more. Exit status 1: some could not be replayed, and why is said.
    """

    command_name = "replay"
    example = "-A app.shop dead-letters replay --all --error DecodeError"
    options = [
        argument("places", nargs=-1, type=_Place()),
        option("--all", "is_all", is_flag=True, show_default=False, help="All that the filters leave."),
        *_FILTERS,
        option("--limit", type=_LIMIT, default=None, show_default=False, help="At most so many."),
        option("--again", is_flag=True, show_default=False, help="Also what was replayed before."),
        option("--dry-run", "is_dry", is_flag=True, show_default=False, help="Say it, do nothing."),
    ]

    async def answer(self) -> ExitStatus:
        """How many were replayed, and what was left out."""
        places: tuple[LetterPlace, ...] = self.kwargs["places"]
        if bool(places) == self.kwargs["is_all"]:
            raise click.UsageError("name dead letters as PARTITION:OFFSET, or say --all (with filters)")
        declared = self.declared_app.declarations
        is_dry: bool = self.kwargs["is_dry"]
        async with self.open_log(self.settings()) as log:
            layout = await find_layout(log, declared)
            replay = Replay(log, declared.app_id, layout.groups, is_dry=is_dry, again=self.kwargs["again"])
            outcome = await replay.run(
                self.selection(places), limit=self.kwargs["limit"], report=self._tell_progress
            )
        if self.json:
            self.show_json(
                {
                    "replayed": outcome.replayed,
                    "dry_run": is_dry,
                    "already_replayed": [str(place) for place in outcome.already],
                    "refused": [{"place": str(place), "reason": why} for place, why in outcome.homeless],
                    "absent": [str(place) for place in outcome.absent],
                }
            )
        else:
            click.echo(f"{'would be replayed' if is_dry else 'replayed'}: {outcome.replayed}")
            self._tell("already replayed, left out (--again takes them once more)", outcome.already)
            self._tell("not there", outcome.absent)
            self._tell("cannot be replayed", [f"{place} ({why})" for place, why in outcome.homeless])
        return ExitStatus.YES if outcome.is_complete else ExitStatus.NO

    def _tell_progress(self, replayed: int) -> None:
        if not self.kwargs["is_dry"]:
            click.echo(f"headrace: {replayed} dead letters replayed so far", err=True)

    @staticmethod
    def _tell(what: str, places: list[Any]) -> None:
        if places:
            more = f" and {len(places) - _SHOWN_PLACES_MAX} more" if len(places) > _SHOWN_PLACES_MAX else ""
            listed = ", ".join(map(str, places[:_SHOWN_PLACES_MAX]))
            click.echo(f"{what}: {len(places)}: {listed}{more}")


async def _one(log: Log, app: str, place: LetterPlace) -> FoundLetter | None:
    async with aclosing(find_letters(log, app, Selection(places=frozenset({place})))) as letters:
        async for found in letters:
            return found
    return None


def _row(found: FoundLetter, replays: int) -> dict[str, Any]:
    letter = found.letter
    return {
        "place": str(found.place),
        "at": _moment(letter.at_ms),
        "source": f"{letter.topic} {letter.partition}:{letter.offset}",
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "group": letter.group,
        "agent": letter.agent,
        "error": letter.error,
        "reason": letter.reason,
        "replayed": replays,
    }


def _contents(letter: Letter) -> dict[str, Any]:
    try:
        envelope = decode_envelope(letter.headers)
    except DecodeError:
        envelope = None  # the header that cannot be read is shown with the others
    return {
        "timestamp": _moment(letter.timestamp_ms),
        "event_id": id_text(envelope.event_id) if envelope else None,
        "key": _readable(letter.key),
        "value": _readable(letter.value),
        "headers": [{"name": name} | (_readable(content) or {}) for name, content in letter.headers],
    }


def _readable(raw: bytes | None) -> dict[str, str] | None:
    """The bytes as text, if they are text that a terminal can show; else as hexadecimal digits."""
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return {"hex": raw.hex()}
    is_plain = all(character.isprintable() or character in "\t\n\r" for character in text)
    return {"text": text} if is_plain else {"hex": raw.hex()}


def _write(whole: dict[str, Any]) -> None:
    for name in ("place", "source", "timestamp", "event_id", "group", "agent", "at", "error", "reason"):
        click.echo(f"{name:<10}{whole[name] or ('every agent of the topic' if name == 'agent' else '-')}")
    click.echo(f"{'replayed':<10}{whole['replayed'] or 'no'}")
    for name in ("key", "value"):
        click.echo(f"{name:<10}{_one_line(whole[name])}")
    decoded = whole["undecodable"] or msgspec.json.encode(whole["decoded"]).decode()
    click.echo(f"{'decoded':<10}{'no: ' if whole['undecodable'] else ''}{decoded}")
    for header in whole["headers"]:
        click.echo(f"{'header':<10}{header['name']}: {_one_line(header)}")


def _one_line(readable: dict[str, str] | None) -> str:
    if readable is None:
        return "-"
    return readable["text"] if "text" in readable else f"hex {readable['hex']}"


def _cut(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _REASON_CHARS_MAX else line[: _REASON_CHARS_MAX - 1] + "…"


def _moment(time_ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
