"""The origin of rows, as tests ask for it."""

from typing import Any

import headrace
from headrace.cli.layout import find_layout
from headrace.flow.globalreading import read_globals
from headrace.flow.keyhistory import naming_of, telling_topics
from headrace.flow.origin import Origin, OriginSearch
from headrace.flow.standing import read_standing
from headrace.log.port import Log


async def origin_of(
    app: headrace.App, log: Log, table: headrace.Table[Any, Any], key: Any, **options: Any
) -> Origin:
    """What made the row of a key, from the log alone."""
    declared = app.declarations
    layout = await find_layout(log, declared)
    group = layout.group_of(table.name, declared)
    followed = await read_globals(log, layout.groups.values(), but=group.name)
    telling = telling_topics((), list(declared.topics.values()))
    options = {"limit": 1_000, "telling": telling, "followed": followed, **options}
    search = OriginSearch(log, group, table, key, naming=await naming_of(log), **options)
    return await search.run(await read_standing(log, group, search.partition, search.row_key))
