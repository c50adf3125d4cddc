"""The app that is killed: it counts numbers, passes each on, and looks up what marks say was counted."""

import msgspec

import headrace

PARTITIONS = 12


class Numbered(headrace.Event, frozen=True):
    """The next number of a key has been given out; each key counts from 1."""

    key: int
    number: int


class Marked(headrace.Event, frozen=True):
    """Whoever sent this had seen a key's numbers up to one in the log, and says so in its stamp."""

    key: int
    number: int


class Echoed(headrace.Event, frozen=True):
    """A number was counted."""

    number: int


class Looked(headrace.Event, frozen=True):
    """A mark was handled."""

    number: int
    counted: int
    """How far the key was counted then."""


class Line(msgspec.Struct, frozen=True):
    """Everything that came for a key."""

    count: int = 0
    total: int = 0
    digest: int = 0
    """Another one for every other order."""

    def plus(self, number: int) -> "Line":
        """The line after this number."""
        return Line(self.count + 1, self.total + number, (self.digest * 31 + number) % (2**61 - 1))


class Sight(msgspec.Struct, frozen=True):
    """What the marks of a key found."""

    marks: int = 0
    early: int = 0
    """Marks that came before what their stamps name."""

    def plus(self, mark: Marked, line: Line) -> "Sight":
        """The sight after this mark."""
        return Sight(self.marks + 1, self.early + (line.count < mark.number))


app = headrace.App("storm")
numbers: headrace.Topic[int, Numbered] = app.topic(
    "numbers", key_type=int, value_type=Numbered, partitions=PARTITIONS
)
marks: headrace.Topic[int, Marked] = app.topic(
    "marks", key_type=int, value_type=Marked, partitions=PARTITIONS
)
echoes: headrace.Topic[int, Echoed] = app.topic(
    "echoes", key_type=int, value_type=Echoed, partitions=PARTITIONS
)
looks: headrace.Topic[int, Looked] = app.topic(
    "looks", key_type=int, value_type=Looked, partitions=PARTITIONS
)
lines = app.Table("lines", key_type=int, value_type=Line, default=Line)
sights = app.Table("sights", key_type=int, value_type=Sight, default=Sight)
app.serve(lines, "/lines")
app.serve(sights, "/sights")


@app.agent(numbers)
async def count(events: headrace.Stream[Numbered]) -> None:
    """Count and pass on."""
    async for event in events:
        lines[event.key] = lines[event.key].plus(event.number)
        await echoes.send(value=Echoed(event.number))


@app.agent(marks)
async def look(events: headrace.Stream[Marked]) -> None:
    """Look whether what the mark's sender had seen is counted."""
    async for event in events:
        line = lines[event.key]
        sights[event.key] = sights[event.key].plus(event, line)
        await looks.send(value=Looked(event.number, line.count))
