"""What a comparison has found so far, in a folder: it can be interrupted anywhere and go on there."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace.bridge.diff.difference import Difference, Kind

_STATE = "state.json"
_FOUND = "found.jsonl"


class Asked(msgspec.Struct, frozen=True):
    """What is compared: only a comparison of the same goes on where another one ended."""

    table: str
    sql_table: str
    database: str
    applier: str
    changelog_id: str
    share: float


class Kept(msgspec.Struct, frozen=True):
    """One difference, for people and scripts."""

    kind: str
    key: Any
    table: Any
    database: Any
    changed: tuple[str, ...]
    position: dict[str, int]
    store_key: str


class Progress(msgspec.Struct):
    """How far a comparison is."""

    asked: Asked
    started_s: float
    after: str | None = None
    """Hex of the last store key that is compared; None: none yet."""
    is_whole: bool = False
    """Whether the end of both tables was reached."""
    compared: int = 0
    doubtful: list[str] = []
    """Hex of keys that are to be looked at again."""
    counts: dict[str, int] = {}
    found_bytes: int = 0
    """So much of the file of differences counts."""
    seconds: float = 0.0


class State:
    """The state of one comparison, in a folder of its own."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.progress = progress
        self.is_resumed = progress.compared > 0 or progress.after is not None
        self.doubtful = {bytes.fromhex(each) for each in progress.doubtful}

    @classmethod
    def begin(cls, folder: Path, asked: Asked, now_s: float) -> "State":
        """A new comparison; what was left of another one is forgotten."""
        folder.mkdir(parents=True, exist_ok=True)
        state = cls(folder, Progress(asked, now_s, counts={kind.value: 0 for kind in Kind}))
        (folder / _FOUND).write_bytes(b"")
        state.save()
        return state

    @classmethod
    def resume(cls, folder: Path, asked: Asked) -> "State | None":
        """The comparison that was interrupted here; None: there is none, or it was of other things."""
        try:
            progress = msgspec.json.decode((folder / _STATE).read_bytes(), type=Progress)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        if progress.asked != asked or (progress.is_whole and not progress.doubtful):
            return None
        os.truncate(folder / _FOUND, progress.found_bytes)
        return cls(folder, progress)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be compared."""
        return self.progress.is_whole and not self.doubtful

    @property
    def touched_s(self) -> float:
        """When it was saved last, in seconds since the epoch."""
        return (self.folder / _STATE).stat().st_mtime

    @property
    def after(self) -> bytes | None:
        """The last store key that is compared."""
        return bytes.fromhex(self.progress.after) if self.progress.after is not None else None

    @after.setter
    def after(self, key: bytes) -> None:
        self.progress.after = key.hex()

    def note(self, difference: Difference, key: Any) -> None:
        """Keep a difference; the key as JSON has it. It counts from the next `save` on."""
        kept = Kept(
            kind=difference.kind.value,
            key=key,
            table=difference.value,
            database=difference.columns,
            changed=difference.changed,
            position=dict(difference.position),
            store_key=difference.store_key.hex(),
        )
        line = msgspec.json.encode(kept, enc_hook=str) + b"\n"
        with (self.folder / _FOUND).open("ab") as file:
            file.write(line)
        self.progress.found_bytes += len(line)
        counts = self.progress.counts
        counts[difference.kind.value] = counts.get(difference.kind.value, 0) + 1

    def save(self) -> None:
        """Make all of it durable in one step."""
        self.progress.doubtful = sorted(key.hex() for key in self.doubtful)
        fresh = self.folder / f"{_STATE}.new"
        fresh.write_bytes(msgspec.json.encode(self.progress))
        fresh.replace(self.folder / _STATE)

    @property
    def found_file(self) -> Path:
        """One difference a line."""
        return self.folder / _FOUND

    def found(self) -> Iterator[Kept]:
        """The differences, in the order in which they were found."""
        with self.found_file.open("rb") as file:
            for line in file:
                yield msgspec.json.decode(line, type=Kept)

    def counts(self) -> Mapping[str, int]:
        """Differences by kind."""
        return dict(self.progress.counts)
