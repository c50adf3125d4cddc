"""The dead letters of a simulated log, as the stories about bad events look at them."""

from headrace import TopicPartition
from headrace.flow.deadletter import Letter, dead_letters_name
from headrace.log.simulated.log import SimulatedLog


class Unlucky(Exception):
    """What the agents of these stories raise."""


def letters(log: SimulatedLog, app: str = "shop") -> list[Letter]:
    """Every dead letter, in log order."""
    partition = log.cluster.partition(TopicPartition(dead_letters_name(app), 0))
    columns = zip(partition.keys, partition.values, partition.headers, strict=True)
    found = [Letter.parse(key, value, headers) for key, value, headers in columns]
    assert None not in found
    return [letter for letter in found if letter is not None]
