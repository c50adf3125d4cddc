"""The tables of databases that an app declares to bridge, and how the app and its bridge are known there."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from headrace.bridge.database import Database
from headrace.bridge.outboxtable import TABLE as OUTBOX
from headrace.bridge.owners.finding import Own
from headrace.bridge.owners.mentions import touched
from headrace.bridge.pin import applier_of
from headrace.bridge.relay import Relay
from headrace.bridge.sqlsink import SqlSink
from headrace.bridge.sqltable import SqlTable
from headrace.declarations import Declarations
from headrace.flow.references import named

_TOOLS = ("headrace diff of ", "headrace shadow of ", "headrace repair", "headrace owners")


def declared_tables(declared: Declarations) -> dict[str, Database]:
    """By name the tables that the app writes, compares, reads in shadow or publishes from."""
    return {name.casefold(): database for name, database in _named(declared)}


def _named(declared: Declarations) -> Iterator[tuple[str, Database]]:
    for agent in declared.agents:
        if isinstance(agent.sink, SqlSink):
            for table in named(agent.function, SqlTable):
                yield table.name, agent.sink.database
    for compared in declared.compared.values():
        yield compared.sql_table, compared.database
    for shadow in declared.shadows.values():
        for name in touched(shadow.query)[0]:
            yield name, shadow.database
    for post in declared.posts:
        if isinstance(post, Relay):
            yield OUTBOX, post.database


def own_of(declared: Declarations) -> Own:
    """How sessions of the app, and of the appliers that it compares itself with, are named."""
    apps = {declared.app_id}
    bridged: Iterable[str] = [
        *(each.applier for each in declared.compared.values()),
        *(each.applier for each in declared.shadows.values()),
    ]
    apps.update(applier_of(text, declared.app_id)[0] for text in bridged)
    return Own((*(f"headrace {app} " for app in sorted(apps)), OUTBOX, *_TOOLS))


def own_files() -> frozenset[Path]:
    """The files of every module that is loaded: what the app imports is the app."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return frozenset(Path(file).resolve() for file in files if file)
