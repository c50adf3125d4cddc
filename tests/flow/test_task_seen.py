"""What a task has seen through global tables: in its stamps, and in the record of each unit."""

from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.flow.causality import TaskSeen
from headrace.log.port import TopicSpec, catalog
from headrace.log.simulated.cluster import SimulatedCluster
from headrace.log.simulated.log import SimulatedLog
from headrace.tables.changelog import InputPosition
from headrace.tables.followedrows import FollowedRows
from headrace.tables.globaltable import GlobalTable
from headrace.tables.globalview import GlobalView
from headrace.tables.memory import MemoryStore
from headrace.tables.view import ViewState

ORDERS, STOCK = TopicPartition("orders", 0), TopicPartition("stock", 0)


class Seeing:
    """A task that reads orders and looks into a global table that is folded from stock."""

    def __init__(self, catalog_: Catalog) -> None:
        self.catalog = catalog_
        self.view = GlobalView("everywhere", ["stock"], 1)
        self.inputs = {"orders": InputPosition("id", 0)}
        self.seen = TaskSeen(
            {"orders": catalog_.print_of(ORDERS)},
            NOTHING_SEEN,
            parked={},
            catalog=catalog_,
            followed=[self.view],
        )
        self.seen.begin(self.inputs)

    @classmethod
    async def open(cls) -> "Seeing":
        log = SimulatedLog(SimulatedCluster())
        specs = [TopicSpec(name=place.topic, partitions=1) for place in (ORDERS, STOCK)]
        return cls(catalog(log, await log.provision(specs)))

    def follow(self, offset: int) -> None:
        self.view.partitions[0].serve(MemoryStore(), Position({STOCK: offset}))
        self.view.moved()

    def stamp(self) -> Position:
        return self.catalog.position(Seen.decode(self.seen.stamp("orders", 0)))

    def record(self) -> Position:
        """What the position record of a unit says that ends here."""
        return self.catalog.position(self.seen.sealed(self.inputs)[1])


async def test_what_a_stamp_says_of_a_global_table_is_in_the_record_of_the_unit_too() -> None:
    seeing = await Seeing.open()
    seeing.record()
    seeing.follow(7)
    assert seeing.stamp() == Position({ORDERS: 1, STOCK: 7})
    assert seeing.record() == Position({STOCK: 7})


async def test_what_was_read_of_a_global_table_was_seen_also_when_the_table_closes_right_after_it() -> None:
    seeing = await Seeing.open()
    table: GlobalTable[str, int] = GlobalTable("levels", key_type=str, value_type=int, group="everywhere")
    rows = FollowedRows(
        table, seeing.view, reader="main", cache_rows_max=9, on_look=seeing.seen.look_at_followed
    )
    for read in (lambda: rows.get("jam"), lambda: list(rows.scan())):
        seeing.follow(seeing.record().get(STOCK, 0) + 3)
        before = seeing.view.position[STOCK]
        read()
        seeing.view.partitions[0].close(ViewState.RESTORING)
        seeing.view.moved()
        assert seeing.stamp()[STOCK] == before
        assert seeing.record() == Position({STOCK: before})
