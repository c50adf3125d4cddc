"""A table that every worker has all of: its declaration."""

from headrace.tables.table import K, Table, V


class GlobalTable(Table[K, V]):
    """A table of a group of its own, written by that group's one agent and readable everywhere in the app.

    The agent that writes it has, as with any table, the rows of its partition, those of the unit in
    hand included, and none of the others. All other agents, and routes, timers and tasks, have the
    committed rows of all partitions, as far as their worker has followed the changelog.
    """

    def __repr__(self) -> str:
        return f"<GlobalTable {self.name} of group {self.group}>"
