"""Taking a task over whose position a sink keeps: where it goes on, and what the log lacks of it."""

import logging
from collections.abc import Mapping

from headrace.events.position import TopicPartition
from headrace.events.seen import Seen
from headrace.flow.group import Group
from headrace.flow.sink import OpenSink
from headrace.flow.takeover import Held, verify_input
from headrace.log.port import Log, TopicInfo
from headrace.tables.changelog import InputPosition

logger = logging.getLogger(__name__)


async def follow_sink(
    sink: OpenSink, held: Held, group: Group, partition: int, *, log: Log, topics: Mapping[str, TopicInfo]
) -> None:
    """Let a task that was taken over go on where its sink is.

    Raises: OffsetOutOfRange and TopicMismatch when the inputs are not those of the sink's position.
    """
    standing, inputs = sink.standing, dict(held.inputs)
    places = {name: TopicPartition(name, partition) for name in (*group.inputs, group.replay)}
    ranges = await log.offsets(list(places.values()))
    if standing is None:
        if held.unit:
            logger.warning(
                "The database knows nothing of %s/%s, which the log has in unit %s: it begins anew",
                group.name,
                partition,
                held.unit,
            )
            for name, place in places.items():
                begin = ranges[place].end if name in group.starts_latest else ranges[place].start
                inputs[name] = InputPosition(topics[name].topic_id, begin)
            held.inputs = inputs
        held.is_position_durable = False
        return
    for name, place in places.items():
        if name in standing.inputs:
            inputs[name] = standing.inputs[name]
            verify_input(place, inputs[name], topics[name].topic_id, ranges[place], group.name)
    held.parked = {name: at for name, at in standing.inputs.items() if name not in inputs}
    held.is_sink_ahead = standing.unit > held.unit
    held.is_position_durable = not held.is_sink_ahead and inputs == dict(held.inputs)
    if held.is_sink_ahead:
        # The log is told of it under its own number. This task may be fenced there by now, without knowing:
        # under another number, noted in the sink, its successor would tell the same letters again.
        held.letters, held.unit = standing.letters, standing.unit - 1
    held.inputs, held.seen = inputs, Seen.decode(standing.seen)
