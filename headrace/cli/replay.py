"""Dead letters go back to the agents that refused them: each once, whatever happens to the command."""

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from headrace.cli.letters import FoundLetter, LetterPlace, Selection, find_letters, find_replayed
from headrace.events.position import TopicPartition
from headrace.flow.deadletter import dead_letters_name
from headrace.flow.group import Group
from headrace.log.port import Append, Log, Outgoing, Writer
from headrace.provisioning import provision_own

BATCH_RECORDS_MAX = 500
BATCH_BYTES_MAX = 4 * 1024 * 1024


@dataclass(slots=True)
class Outcome:
    """What became of the selected dead letters."""

    replayed: int = 0
    already: list[LetterPlace] = field(default_factory=list)
    """Left out: they are in a replay input since an earlier replay."""
    homeless: list[tuple[LetterPlace, str]] = field(default_factory=list)
    """Left out: the group, agent or partition that refused them is not there any more; and why."""
    absent: list[LetterPlace] = field(default_factory=list)
    """Named, but not in the dead-letter topic."""

    @property
    def is_complete(self) -> bool:
        """Whether each selected letter is on its way."""
        return not self.homeless and not self.absent


class Replay:
    """Puts dead letters on the replay inputs of an app's groups.

    Order: the writer comes first, so an older replay that still runs is fenced before anything is
    read; then what was replayed is read; then each batch is one transaction. A replay that was
    killed between two batches and is run again goes on behind the last one that was committed.
    """

    def __init__(self, log: Log, app: str, groups: Mapping[str, Group], *, is_dry: bool, again: bool) -> None:
        self._log = log
        self._app = app
        self._groups = groups
        self._is_dry = is_dry
        self._again = again
        self._batch: dict[TopicPartition, list[Outgoing]] = {}
        self._batch_records = 0
        self._batch_bytes = 0
        self._outcome = Outcome()

    async def run(self, selection: Selection, *, limit: int | None, report: Callable[[int], None]) -> Outcome:
        """Replay what is selected, at most `limit` letters; `report` hears the sum after each batch.

        Cancel: the batch in hand has an unknown outcome; run again, what was committed is left out.
        Raises: LogError; Fenced when another replay of this app was started meanwhile.
        """
        if self._is_dry:
            await self._walk(selection, limit, None, report)
            return self._outcome
        await provision_own(self._log, self._app, list(self._groups.values()))
        writer = await self._log.writer(f"{self._app}-dead-letters-replay")
        try:
            await self._walk(selection, limit, writer, report)
        finally:
            await writer.close()
        return self._outcome

    async def _walk(
        self,
        selection: Selection,
        limit: int | None,
        writer: Writer | None,
        report: Callable[[int], None],
    ) -> None:
        inputs = [group.replay for group in self._groups.values()]
        done = await find_replayed(self._log, self._app, inputs)
        missing = set(selection.places)
        taken = 0
        async with aclosing(find_letters(self._log, self._app, selection)) as letters:
            async for found in letters:
                missing.discard(found.place)
                if found.place in done and not self._again:
                    self._outcome.already.append(found.place)
                elif (reason := self._homeless(found)) is not None:
                    self._outcome.homeless.append((found.place, reason))
                elif limit is not None and taken >= limit:
                    break
                else:
                    taken += 1
                    self._add(found)
                    if self._batch_records >= BATCH_RECORDS_MAX or self._batch_bytes >= BATCH_BYTES_MAX:
                        await self._commit(writer, report)
        await self._commit(writer, report)
        self._outcome.absent = sorted(missing)

    def _homeless(self, found: FoundLetter) -> str | None:
        letter = found.letter
        group = self._groups.get(letter.group)
        if group is None:
            return f"the app has no group {letter.group}"
        if letter.partition >= group.partitions:
            return f"group {letter.group} has no partition {letter.partition}"
        readers = {agent.name for agent in group.agents if agent.topic.name == letter.topic}
        if not readers:
            return f"no agent of group {letter.group} reads topic {letter.topic}"
        if letter.agent and letter.agent not in readers:
            return f"there is no agent {letter.agent} on topic {letter.topic}"
        return None

    def _add(self, found: FoundLetter) -> None:
        letter = replace(
            found.letter,
            replay_of=TopicPartition(dead_letters_name(self._app), found.place.partition),
            replay_offset=found.place.offset,
        )
        place = TopicPartition(self._groups[letter.group].replay, letter.partition)
        record = (letter.key, letter.value, letter.to_headers(), found.timestamp_ms)
        self._batch.setdefault(place, []).append(record)
        self._batch_records += 1
        self._batch_bytes += len(letter.key or b"") + len(letter.value or b"")

    async def _commit(self, writer: Writer | None, report: Callable[[int], None]) -> None:
        if not self._batch_records:
            return
        if writer is not None:
            await writer.commit([Append(*place, records) for place, records in self._batch.items()])
        self._outcome.replayed += self._batch_records
        self._batch, self._batch_records, self._batch_bytes = {}, 0, 0
        report(self._outcome.replayed)
