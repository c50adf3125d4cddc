"""`history`: a key's events and corrections, as believed then and as corrected now."""

from collections.abc import Sequence
from typing import Any

import click

from headrace.cli.command import Command, ExitStatus, argument, option
from headrace.cli.completion import topic_names
from headrace.cli.progress import ReadingProgress
from headrace.cli.telling import fact_as_json, fact_lines
from headrace.flow.fact import Naming
from headrace.flow.keyhistory import Home, KeyHistory, homes, key_history, naming_of, telling_topics
from headrace.flow.topic import Topic
from headrace.flow.wording import plain
from headrace.log.port import Log

LIMIT = 100


class History(Command):
    """Write the events of KEY and their corrections in log order; exit status 1 when there is none.

    Read are the app's inputs, and its topics that carry corrections; of each only the partition in
    which the key lives. An event that was corrected is marked, with what holds now.
    """

    example = "-A app.shop history ada"
    options = [
        argument("key"),
        option(
            "--topic",
            "-t",
            default=None,
            show_default=False,
            help="Only this one.",
            shell_complete=topic_names,
        ),
        option("--limit", type=click.IntRange(min=1), default=LIMIT, help="So many of the newest events."),
    ]

    async def answer(self) -> ExitStatus:
        """The events of the key."""
        topics = self._topics()
        async with self.open_log(self.settings()) as log:
            found = await self._homes(log, topics)
            naming = await naming_of(log)
            with ReadingProgress() as progress:
                limit: int = self.kwargs["limit"]
                told = await key_history(log, found, naming.catalog, limit=limit, report=progress.report)
        if self.json:
            self.show_json(self._as_json(told, naming))
        else:
            self._write(told, naming)
        return ExitStatus.YES if told.facts else ExitStatus.NO

    def _topics(self) -> Sequence[Topic[Any, Any]]:
        declared = self.declared_app.declarations
        wanted = self.kwargs["topic"]
        if wanted is None:
            return telling_topics([agent.topic for agent in declared.agents], list(declared.topics.values()))
        topic = declared.topics.get(wanted)
        if topic is None:
            known = ", ".join(declared.topics) or "none"
            raise click.UsageError(f"there is no topic {wanted!r}; the app has: {known}")
        return [topic]

    async def _homes(self, log: Log, topics: Sequence[Topic[Any, Any]]) -> Sequence[Home]:
        infos = await log.describe([topic.name for topic in topics])
        found = homes(self.kwargs["key"], topics, infos)
        if infos and not found:
            names = ", ".join(infos)
            raise click.UsageError(f"{self.kwargs['key']!r} is no key of any of these topics: {names}")
        return found

    def _as_json(self, told: KeyHistory, naming: Naming) -> dict[str, Any]:
        return {
            "key": self.kwargs["key"],
            "partitions": {place.topic: place.partition for place in told.places},
            "begins_at": {place.topic: offset for place, offset in told.begins_at.items()},
            "left_out": told.left_out,
            "events": [fact_as_json(fact, naming) for fact in told.facts],
        }

    def _write(self, told: KeyHistory, naming: Naming) -> None:
        if told.left_out:
            click.echo(f"({told.left_out:,} older events are left out; --limit tells more of them)")
        for fact in told.facts:
            for line in fact_lines(fact, naming):
                click.echo(plain(line))
        for place, offset in told.begins_at.items():
            where = f"{place.topic}/{place.partition}"
            click.echo(f"({where} begins at offset {offset}: what was before is deleted)", err=True)
        if not told.facts:
            where = ", ".join(f"{place.topic}/{place.partition}" for place in told.places)
            click.echo(
                f"headrace: there is no event of {self.kwargs['key']} in {where or 'the log'}", err=True
            )
