"""Admission: which of the fetched events may be handed out, and which have to wait for others first.

An event waits until the task's inputs, and the global tables it may read, have reached what the
event's stamp says of them. It holds its own input and no other. A true stamp names what was in the
log before the event was, so some input can always go on; one that is not true is refused by name.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from headrace.clock import Clock
from headrace.errors import (
    DecodeError,
    EventError,
    MalformedStamp,
    UncoverableStamp,
    UntrueStamp,
)
from headrace.events.envelope import HEADER, STAMP_AT, decode_envelope
from headrace.events.position import Catalog, TopicPartition
from headrace.events.seen import (
    COMPONENT_BYTES,
    NAME_BYTES,
    PRINT_BYTES,
    STAMP_HEAD,
    STAMP_HEAD_CUT,
    TOPIC_BYTES,
    Print,
    check_stamp,
    partition_of,
)
from headrace.flow.causality import Followed, TaskSeen, offset_bytes
from headrace.flow.decoding import place
from headrace.flow.isolation import Isolation
from headrace.log.port import Chunk, Log
from headrace.tables.view import HeldInput, PartitionView
from headrace.turns import Turns

_SLICE_EVENTS = 512
_ONE_COMPONENT = 1 + COMPONENT_BYTES
_HEARD_MAX = 1_024
_PLAIN = STAMP_HEAD[0]

Missing = Mapping[Print, int]
"""What an event waits for: offsets that have to be reached."""


class Admission:
    """The waiting room of one task: by input, the events that were fetched and not handed out yet."""

    def __init__(
        self,
        inputs: Mapping[str, Print],
        reached: Mapping[str, int],
        seen: TaskSeen,
        *,
        view: PartitionView,
        isolation: Isolation,
        log: Log,
        catalog: Catalog,
        clock: Clock,
        followed: Sequence[Followed] = (),
        partitions: Mapping[str, int],
        records_max: int,
    ) -> None:
        self._inputs = dict(inputs)
        self._admitted = {print_: offset_bytes(reached[topic]) for topic, print_ in inputs.items()}
        """How far the task is once everything that was admitted is handled."""
        self._reached = dict(self._admitted)
        """The same and, where global tables are folded from it, not further than the last of them."""
        self._places = {
            print_: TopicPartition(topic, partition_of(print_)) for topic, print_ in inputs.items()
        }
        self._own_names = {print_[:NAME_BYTES]: print_ for print_ in inputs.values()}
        self._seen = seen
        self._view = view
        self._isolation = isolation
        self._log = log
        self._catalog = catalog
        self._clock = clock
        self._followed = followed
        self._versions = [-1] * len(followed)
        self._shown: list[dict[Print, bytes]] = [{} for _ in followed]
        """How far each global table is."""
        for shown, each in zip(self._shown, followed, strict=True):
            for at in _partitions(each, partitions):
                # Where its position does not say so yet, a global table has nothing of a partition.
                self._judge(shown, at, 0)
        self._records_max = records_max
        self._waiting: dict[str, deque[Chunk]] = {topic: deque() for topic in inputs}
        self._missing: dict[str, Missing] = {}
        """Input to what its first event waits for."""
        self._since: dict[str, float] = {}
        self._ends: dict[Print, int] = {}
        """Where partitions ended when the log was asked last."""
        self._is_rechecked = False
        """What waits is held against the log itself, not against what was read of it."""
        self._heard: dict[Print, bytes] = {}
        """The highest that the stamps so far said of partitions that are not judged here."""

    @property
    def is_holding(self) -> bool:
        """Whether an input waits for another one."""
        return bool(self._missing)

    @property
    def must_look(self) -> bool:
        """Whether a global table has moved on since the last look."""
        return [each.version for each in self._followed] != self._versions

    def full(self) -> frozenset[TopicPartition]:
        """Inputs of which so much waits that no more is to be read."""
        return frozenset(
            self._places[self._inputs[topic]]
            for topic in self._missing
            if sum(map(len, self._waiting[topic])) >= self._records_max
        )

    async def take(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """What may be handed out now, in this order: of these chunks, and of what had to wait before.

        Each of them may be handed out when those before it are finished. Raises: LogError.
        """
        self._forget_refused()
        for chunk in chunks:
            self._waiting[chunk.topic].append(chunk)
        self._follow()
        admitted: list[Chunk] = []
        while True:
            while any([await self._admit(topic, admitted) for topic in self._inputs]):
                pass
            if not await self._refuse_untrue():
                break
        self._show()
        return admitted

    def recheck(self) -> None:
        """Ask the log again whether what is waited for is in it: it may have lost its end."""
        self._ends.clear()
        self._is_rechecked = True

    def _follow(self) -> None:
        """Take in how far the global tables are."""
        for index, followed in enumerate(self._followed):
            if followed.version == self._versions[index]:
                continue
            self._versions[index] = followed.version
            for at, offset in followed.position.items():
                self._judge(self._shown[index], at, offset)

    def _judge(self, shown: dict[Print, bytes], at: TopicPartition, offset: int) -> None:
        """A global table is at this offset of a partition."""
        print_ = self._catalog.print_of(at)
        self._places[print_] = at
        self._own_names[print_[:NAME_BYTES]] = print_
        shown[print_] = offset_bytes(offset)
        self._reach(print_)

    def _reach(self, print_: Print) -> None:
        """Whatever may be read here has come at least as far as is noted."""
        each = [known[print_] for known in (self._admitted, *self._shown) if print_ in known]
        self._reached[print_] = min(each)

    def _note_admitted(self, topic: str, offset_next: int) -> None:
        print_ = self._inputs[topic]
        self._admitted[print_] = offset_bytes(offset_next)
        self._reach(print_)

    async def _admit(self, topic: str, admitted: list[Chunk]) -> bool:
        """Admit what can be of one input; whether there was anything."""
        waiting, has_any = self._waiting[topic], False
        missing = self._missing.get(topic)
        if missing is not None and not self._covers(missing):
            return False
        self._missing.pop(topic, None)
        while waiting:
            chunk = waiting.popleft()
            count, missing = await self._fit(chunk)
            if count == len(chunk):
                admitted.append(chunk)
                self._note_admitted(topic, chunk.offset_next)
                has_any = True
                continue
            waiting.appendleft(chunk.tail(count) if count else chunk)
            self._missing[topic] = missing
            if count:
                admitted.append(chunk.head(count))
                self._note_admitted(topic, chunk.offsets[count])
                has_any = True
            break
        return has_any

    def _covers(self, missing: Missing) -> bool:
        return all(self._reached[print_] >= offset_bytes(offset) for print_, offset in missing.items())

    # --- one event

    async def _fit(self, chunk: Chunk) -> tuple[int, Missing]:
        """How many events of a chunk may be handed out, and what the next one waits for."""
        with Turns() as turns:
            for start in range(0, len(chunk), _SLICE_EVENTS):
                index, missing = self._scan(chunk, start, min(start + _SLICE_EVENTS, len(chunk)))
                if missing:
                    return index, missing
                if turns.is_due:
                    await turns.give()
        return len(chunk), {}

    def _scan(self, chunk: Chunk, start: int, stop: int) -> tuple[int, Missing]:
        # An event that names one partition, as most do, costs two slices of bytes and a look into a dict.
        reached, all_headers = self._reached, chunk.headers
        for index in range(start, stop):
            headers = all_headers[index]
            if not headers:
                continue
            name, value = headers[0]
            stamp: bytes | None = None
            if name == HEADER and len(value) > 1:
                at = STAMP_AT[value[1] & 3]
                size = len(value) - at
                if not size:
                    continue
                if size == _ONE_COMPONENT and value[at] == _PLAIN:
                    known = reached.get(value[at + 1 : at + 1 + PRINT_BYTES])
                    if known is not None and value[at + 1 + PRINT_BYTES :] <= known:
                        continue
                if size > 0:
                    stamp = value[at:]
            missing = self._weigh(chunk, index, stamp)
            if missing:
                return index, missing
        return stop, {}

    def _weigh(self, chunk: Chunk, index: int, stamp: bytes | None) -> Missing:
        """What the event waits for. An event that can never be handed out is noted as refused."""
        refused = self._isolation.refused
        if refused and (chunk.topic, chunk.offsets[index]) in refused:
            return {}
        try:
            if stamp is None:
                envelope = decode_envelope(chunk.headers[index])
                stamp = envelope.stamp if envelope is not None else b""
            return self._missing_of(chunk, index, stamp) if stamp else {}
        except (DecodeError, MalformedStamp, UncoverableStamp) as error:
            self._refuse(chunk, index, type(error), error.what)
            return {}

    def _missing_of(self, chunk: Chunk, index: int, stamp: bytes) -> Missing:
        """Raises: MalformedStamp, UncoverableStamp."""
        check_stamp(stamp)
        missing: dict[Print, int] = {}
        others: list[tuple[Print, bytes]] = []
        for at in range(1, len(stamp), COMPONENT_BYTES):
            print_ = stamp[at : at + PRINT_BYTES]
            offset = stamp[at + PRINT_BYTES : at + COMPONENT_BYTES]
            known = self._reached.get(print_)
            if known is None:
                self._check_identity(print_, offset)
                if offset > self._heard.get(print_, b""):
                    others.append((print_, offset))
            elif offset > known:
                missing[print_] = int.from_bytes(offset, "big")
        if not missing:
            for print_, offset in others:
                if len(self._heard) < _HEARD_MAX or print_ in self._heard:
                    self._heard[print_] = offset
                self._seen.learn(chunk.topic, chunk.offsets[index], print_, offset)
            if stamp[:1] == STAMP_HEAD_CUT:
                self._seen.learn_cut()
        return missing

    def _check_identity(self, print_: Print, offset: bytes) -> None:
        """Refuse the name of an input with another identity."""
        own = self._own_names.get(print_[:NAME_BYTES])
        if own is None or own[:TOPIC_BYTES] == print_[:TOPIC_BYTES]:
            return
        at = self._places[own]
        raise UncoverableStamp(
            f"its sender had seen {at.topic} partition {partition_of(print_)} up to before offset "
            f"{int.from_bytes(offset, 'big')}, and that topic was deleted or recreated since"
        )

    def _refuse(self, chunk: Chunk, index: int, kind: type[EventError], what: str) -> None:
        self._isolation.refused[chunk.topic, chunk.offsets[index]] = kind(what, **place(chunk, index))

    def _forget_refused(self) -> None:
        """What is committed is not tried again."""
        refused = self._isolation.refused
        for topic, offset in list(refused):
            print_ = self._inputs.get(topic)
            if print_ is not None and offset < self._view.position.get(self._places[print_], 0):
                del refused[topic, offset]

    # --- what waits

    async def _refuse_untrue(self) -> bool:
        """Refuse held events whose stamps name what is not in the log; whether there were any."""
        known = {} if self._is_rechecked else self._view.input_ends
        self._is_rechecked = False
        doubtful = {
            print_
            for missing in self._missing.values()
            for print_, offset in missing.items()
            if offset > max(self._ends.get(print_, 0), known.get(self._places[print_], 0))
        }
        if not doubtful:
            return False
        ranges = await self._log.offsets([self._places[print_] for print_ in doubtful])
        self._ends.update({print_: ranges[self._places[print_]].end for print_ in doubtful})
        untrue = False
        for topic, missing in list(self._missing.items()):
            for print_, offset in missing.items():
                # Of the others an end may be known that is long passed.
                if print_ in doubtful and offset > (end := self._ends[print_]):
                    at = self._places[print_]
                    what = (
                        f"its sender says to have seen {at.topic} partition {at.partition} up to before "
                        f"offset {offset}, and that partition ends at offset {end}"
                    )
                    self._refuse(self._waiting[topic][0], 0, UntrueStamp, what)
                    self._missing[topic] = {}
                    untrue = True
                    break
        return untrue

    def _show(self) -> None:
        """Tell readers what is held, since when, and for what."""
        self._since = {topic: self._since.get(topic, self._clock.time()) for topic in self._missing}
        self._view.held = {
            self._places[self._inputs[topic]]: HeldInput(
                self._since[topic],
                self._waiting[topic][0].offsets[0],
                {self._places[print_]: offset for print_, offset in missing.items()},
            )
            for topic, missing in self._missing.items()
        }


def _partitions(followed: Followed, counts: Mapping[str, int]) -> Iterator[TopicPartition]:
    for topic in followed.inputs:
        for partition in range(counts[topic]):
            yield TopicPartition(topic, partition)
