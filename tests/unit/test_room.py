"""Tasks that catch up at once share the worker's memory."""

from headrace.flow.room import Room


def test_few_busy_tasks_take_what_the_setting_says() -> None:
    room = Room()
    for number in range(7):
        assert room.unit_records_max(20_000) == 20_000
        room.take_up(f"main/{number}")
    assert room.unit_records_max(20_000) == 20_000


def test_many_busy_tasks_take_smaller_units_and_larger_ones_again_when_others_rest() -> None:
    room = Room()
    for number in range(63):
        room.take_up(f"main/{number}")
    assert room.unit_records_max(20_000) == 2_500
    for number in range(63):
        room.lay_down(f"main/{number}")
        room.lay_down(f"main/{number}")
    assert room.unit_records_max(20_000) == 20_000


def test_no_unit_becomes_tiny_but_where_the_setting_says_so() -> None:
    room = Room()
    for number in range(10_000):
        room.take_up(f"main/{number}")
    assert room.unit_records_max(20_000) == 1_000
    assert room.unit_records_max(7) == 7
