"""What one event wrote is taken back by its own notes, and nothing else."""

import pytest

from headrace.errors import UnencodableValue
from headrace.events.key import key_codec
from headrace.events.partitioner import Partitioner
from headrace.events.value import row_codec
from headrace.tables.journal import Journal
from headrace.tables.memory import MemoryEngine
from headrace.tables.rows import ABSENT, KeyGuard, Rows


def test_a_write_that_could_not_be_encoded_is_no_write_to_take_back() -> None:
    rows = Rows(
        b"spend\0",
        key_codec(int),
        row_codec(dict[str, int]),
        MemoryEngine().open("main", 0),
        cache_rows_max=10,
    )
    guard = KeyGuard(Partitioner.MURMUR2, 0, 1)
    event = 0
    rows.journal = Journal(lambda: event)
    rows.put(1, {"fish": 3}, guard)
    event = 1
    rows.put(1, {"fish": 4}, guard)
    with pytest.raises(UnencodableValue):
        rows.put(2, {"fish": 10**4_300}, guard)
    rows.journal.roll_back()
    assert rows.get(1) == {"fish": 3}
    assert rows.get(2) is ABSENT
