"""Bugs that somebody could write: each breaks one promise in the product, and must be found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A text of a file of the package, and what stands there instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """One bug, and the first seed that finds it."""

    name: str
    what: str
    seed: int
    changes: tuple[Change, ...]
    simulation: str = "tests.simulation.worlds.live"
    """The module whose `lived` finds it."""


def _bug(name: str, what: str, seed: int, file: str, old: str, new: str, *more: Change) -> Bug:
    return Bug(name, what, seed, (Change(file, old, new), *more))


BUGS = (
    _bug(
        "position-not-in-unit",
        "The position record of a unit says where the unit began, not where it ends.",
        0,
        "flow/unit.py",
        "        inputs = {**self._parked, **self.inputs}\n        reset",
        "        inputs = {**self._parked, **self.inputs, **self._before}\n        reset",
        Change(
            "flow/unit.py",
            "        self.inputs = dict(inputs)\n",
            "        self.inputs = dict(inputs)\n        self._before = dict(inputs)\n",
        ),
    ),
    _bug(
        "published-before-commit",
        "Readers see a unit before its transaction is committed.",
        0,
        "flow/settling.py",
        "        with self._trace.committing(",
        "        self._view.publish(sealed.rows, sealed.position, sealed.unit.seen)\n"
        "        with self._trace.committing(",
    ),
    _bug(
        "not-fenced",
        "Each owner of a task writes under an id of its own, so that no older one is fenced.",
        25,
        "flow/takeover.py",
        '    return f"{app}-{group}-{partition}"\n',
        "    global _OWNERS\n    _OWNERS += 1\n"
        '    return f"{app}-{group}-{partition}-{_OWNERS}"\n\n\n_OWNERS = 0\n',
    ),
    _bug(
        "next-unit-too-early",
        "A unit is sent before the one in front of it is acknowledged.",
        1,
        "flow/settling.py",
        "        await self.until_committed()\n        await self._applying.until_room()\n",
        "        await self._applying.until_room()\n",
    ),
    _bug(
        "fenced-task-reopens",
        "A task that was fenced is taken over again without asking the group whose it is.",
        5,
        "flow/keeper.py",
        "        if must_ask and not await self._is_still_ours():",
        "        if must_ask and isinstance(error, Unavailable) and not await self._is_still_ours():",
    ),
    _bug(
        "marker-progress-ignored",
        "The position is counted by records, so that it never passes the log's own markers.",
        0,
        "flow/unit.py",
        "chunk.offsets[events] if events < len(chunk) else chunk.offset_next",
        "chunk.offsets[events] if events < len(chunk) else (\n"
        "            chunk.offsets[-1] + 1 if len(chunk) else self.inputs[topic].offset_next\n        )",
    ),
    _bug(
        "restored-slice-says-all",
        "The first slice of a restore says that the store has the whole of what was fetched.",
        124,
        "flow/restore.py",
        "self.offset_next = chunk.offset_next if stop == len(chunk) else chunk.offsets[stop]",
        "self.offset_next = chunk.offset_next",
    ),
    _bug(
        "store-not-caught-up",
        "A store that is there is served as it is, without reading on in its changelog.",
        1,
        "flow/restore.py",
        "        if self.offset_next < held.end:\n            self._write_mark(",
        "        if is_new and self.offset_next < held.end:\n            self._write_mark(",
    ),
    _bug(
        "mutable-row-cached",
        "A row of a mutable type is kept as the object that agents have in their hands.",
        0,
        "tables/rows.py",
        "        kept = value if self._is_shared else self.values.encode(value)\n",
        "        kept = value\n",
        Change(
            "tables/rows.py",
            "        if self._is_shared or kept is ABSENT:\n            return kept\n"
            "        return self.values.decode(kept)\n",
            "        return kept\n",
        ),
        Change("tables/rows.py", "return value if self.values.is_immutable else raw\n", "return value\n"),
        Change(
            "tables/rows.py",
            "return [(prefix + to_store(key), None if kept is ABSENT else kept) for",
            "return [(prefix + to_store(key), None if kept is ABSENT else encode(kept)) for",
        ),
    ),
    _bug(
        "outputs-not-taken-back",
        "What a refused event sent stays in the unit.",
        0,
        "flow/hand.py",
        "        for place in self._journal.roll_back():\n            self._unit.outbox.take_back(place)\n",
        "        self._journal.roll_back()\n",
    ),
    _bug(
        "rows-not-taken-back",
        "What a refused event wrote stays in the unit.",
        0,
        "tables/rows.py",
        "        if self.journal is not None:\n            self.journal.wrote(self.fresh, key)\n"
        "        self.fresh[key] = kept\n",
        "        self.fresh[key] = kept\n",
    ),
    _bug(
        "mark-in-first-slice",
        "The mark of a unit is written with its first slice, not with its last.",
        7,
        "flow/applying.py",
        "store.write(list(islice(left, APPLY_ROWS_MAX)))",
        "store.write(list(islice(left, APPLY_ROWS_MAX)), mark)",
    ),
    _bug(
        "layer-retired-too-early",
        "Readers stop looking into a unit before the store has it.",
        0,
        "flow/applying.py",
        "                await self._apply(units)\n",
        "                for unit in units:\n                    self._view.retire(unit.rows)\n"
        "                await self._apply(units)\n",
    ),
    _bug(
        "units-applied-side-by-side",
        "A unit is applied to the store beside the one in front of it.",
        8,
        "flow/applying.py",
        "                await self._apply(units)\n",
        '                asyncio.create_task(self._apply(units), name="beside")\n',
    ),
    _bug(
        "damage-trusted",
        "A store in which damage was found is opened again as if nothing had been.",
        8,
        "flow/opening.py",
        "        aside = await _aside(engine, lambda: engine.quarantine(group, partition, clock.time()))\n",
        "        aside = None\n",
    ),
    _bug(
        "muting-forgotten",
        "A reset sends again what was sent before it.",
        5,
        "flow/task.py",
        "held.reset.muted_until if held.reset else {}",
        "{}",
    ),
    _bug(
        "reset-not-finished",
        "A take-over leaves the rows that a reset was still to delete.",
        5,
        "flow/takeover.py",
        "    if last is None or last.reset is None or not last.reset.is_clearing:\n        return last\n",
        "    if last is None or not held.unit:\n        return last\n",
    ),
    _bug(
        "requests-not-looked-up",
        "A request whose key was answered before is handled again.",
        4,
        "flow/requests/desk.py",
        "        if raw is None or is_expired(raw, self._hours.expiring_ms()):\n            return None\n"
        "        return decode_request(raw)\n",
        "        return None\n",
    ),
    _bug(
        "answers-expire-by-a-set-clock",
        "A clock that is set forward by a day takes the recorded answers away.",
        99,
        "flow/requests/hours.py",
        "        return int(min(self._both_s()) * 1000)\n",
        "        return int(self._clock.time() * 1000)\n",
    ),
    _bug(
        "requests-not-restored",
        "Who takes over a partition of recorded requests does not read what was recorded.",
        4,
        "flow/requests/desk.py",
        "            await restore.run(site.log, held, may_be_cut=True)\n",
        "",
    ),
    _bug(
        "read-does-not-wait",
        "A read that brings a position is answered before its row contains it.",
        100,
        "http/waiting.py",
        "        if not asked.may_wait:\n            return asked\n        try:",
        "        if True:\n            return asked\n        try:",
    ),
    _bug(
        "scan-status-ignored",
        "A scan that meets damage ends as if it had seen every row.",
        8,
        "tables/view.py",
        "        for key, row in self._snapshot.scan(start, end):\n",
        "        for key, row in _as_far_as_it_goes(self._snapshot.scan(start, end)):\n",
        Change(
            "tables/view.py",
            "class FrozenView:\n",
            "def _as_far_as_it_goes(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:\n"
            "    try:\n        yield from rows\n    except HeadraceError:\n        return\n\n\n"
            "class FrozenView:\n",
        ),
    ),
    Bug(
        "stamps-not-heeded",
        "An event is handed out although its sender had seen what its table does not contain yet.",
        0,
        (
            Change(
                "flow/admission.py",
                "            missing = self._weigh(chunk, index, stamp)\n"
                "            if missing:\n                return index, missing\n",
                "            self._weigh(chunk, index, stamp)\n",
            ),
        ),
        "tests.simulation.townlife",
    ),
    _bug(
        "two-keepers",
        "A task that is ours again is started beside the keeper that is still closing it.",
        3,
        "flow/crew.py",
        "for key in sorted(self._wanted - self.keepers.keys() - self._leaving.keys()):",
        "for key in sorted(self._wanted - {k for k in self.keepers if k not in self._leaving}):",
    ),
)
