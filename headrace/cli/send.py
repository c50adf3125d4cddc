"""`send`: one event into a topic of the app."""

import sys
from typing import Any

import click

from headrace.cli.command import Command, ExitStatus, argument, option
from headrace.cli.completion import topic_names
from headrace.errors import DecodeError
from headrace.events.token import Token
from headrace.flow.topic import Topic
from headrace.log.port import catalog
from headrace.provisioning import provision
from headrace.standalone import open_outgate


class Send(Command):
    """Send one event to TOPIC, in a transaction of its own.

    VALUE is JSON of the topic's type (an event of a union names its "type"); `-` reads it from the
    standard input. It is checked before it is sent.
    """

    example = (
        """-A app.shop send shop.orders '{"type": "OrderPlaced", "order_id": "1", "cents": 250}' -k ada"""
    )
    options = [
        argument("topic", shell_complete=topic_names),
        argument("value"),
        option("--key", "-k", default=None, show_default=False, help="The event's key, as in a URL."),
        option("--partition", type=int, default=None, show_default=False, help="Instead of the key's own."),
    ]

    async def answer(self) -> ExitStatus:
        """Where the event is, and its id."""
        settings = self.settings()
        declared = self.declared_app.declarations
        topic = declared.topics.get(self.kwargs["topic"])
        if topic is None:
            known = ", ".join(declared.topics) or "none"
            raise click.UsageError(f"there is no topic {self.kwargs['topic']!r}; the app has: {known}")
        event = self._event(topic)
        async with self.open_log(settings, may_create=True) as log:
            infos = await provision(log, settings, [topic])
            async with open_outgate(declared.app_id, log, infos, settings) as gate, gate.sending() as scope:
                sent = await topic.send(**event)
            token = Token.of(scope.position, catalog(log, infos)).text()
        ((place, offset_next),) = scope.position.items()
        shown = {
            "topic": place.topic,
            "partition": place.partition,
            "offset": offset_next - 1,
            "event_id": sent.event_id,
            "position": token,
        }
        if self.json:
            self.show_json(shown)
        else:
            self.show(tuple(shown), [shown])
        return ExitStatus.YES

    def _event(self, topic: Topic[Any, Any]) -> dict[str, Any]:
        text = sys.stdin.read() if self.kwargs["value"] == "-" else self.kwargs["value"]
        key, partition = self.kwargs["key"], self.kwargs["partition"]
        if key is None and topic.is_keyed:
            raise click.UsageError(f"the events of topic {topic.name} have a key; give it with --key")
        try:
            value = topic.values.decoded(text.encode())
            decoded_key = None if key is None else topic.keys.from_text(key)
        except DecodeError as error:
            raise click.UsageError(f"this is no event of topic {topic.name}: {error.what}") from error
        return {"value": value, "key": decoded_key, "partition": partition}
