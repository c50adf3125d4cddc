"""Counts numbers per key, in a way that shows their order, and passes each on with who has handled it."""

import os

import msgspec

import headrace


class Numbered(headrace.Event, frozen=True):
    """The next number of a key has been given out; each key counts from 1."""

    key: int
    number: int


class Echoed(headrace.Event, frozen=True):
    """A number was handled."""

    number: int
    worker: int
    """Process that handled it."""


class Line(msgspec.Struct, frozen=True):
    """Everything that came for a key."""

    count: int = 0
    total: int = 0
    digest: int = 0
    """Another one for every other order."""
    worker: int = 0

    def plus(self, number: int, worker: int) -> "Line":
        """The line after this number."""
        digest = (self.digest * 31 + number) % (2**61 - 1)
        return Line(self.count + 1, self.total + number, digest, worker)


app = headrace.App("relay")
numbers: headrace.Topic[int, Numbered] = app.topic("numbers", key_type=int, value_type=Numbered, partitions=8)
echoes: headrace.Topic[int, Echoed] = app.topic("echoes", key_type=int, value_type=Echoed, partitions=8)
lines = app.Table("lines", key_type=int, value_type=Line, default=Line)
app.serve(lines, "/lines")
_PROCESS = os.getpid()


@app.agent(numbers)
async def relay(events: headrace.Stream[Numbered]) -> None:
    """Count and pass on."""
    async for event in events:
        lines[event.key] = lines[event.key].plus(event.number, _PROCESS)
        await echoes.send(value=Echoed(event.number, _PROCESS))
