"""Scans: a page of rows of all partitions in key order, on snapshots, complete or refused."""

from collections.abc import Sequence

from starlette.types import Scope, Send

from headrace.errors import StillRecovering
from headrace.events.token import Token
from headrace.http.consistency import Asked
from headrace.http.part import Part, page_of, send_page
from headrace.http.partreader import PartReader
from headrace.http.peers.fan import Fan, parse_partitions
from headrace.http.peers.hop import Hop, is_hopped
from headrace.http.problems import NOT_OWNED, RECOVERING, Problem, problem_of
from headrace.http.query import RowRange, parse_range
from headrace.http.source import ReadSource, ServedTable
from headrace.tables.view import PartitionView

_JSON = b"application/json"
_PART = b"application/vnd.headrace.part+msgpack"


class Scans:
    """`GET {path}?start=&end=&prefix=&limit=&cursor=` for one table."""

    def __init__(self, source: ReadSource, table: ServedTable, hop: Hop) -> None:
        self._source = source
        self._table = table
        self._reader = PartReader(table)
        self._fan = Fan(source, table, hop, self._reader)

    async def respond(self, scope: Scope, send: Send, asked: Asked | None = None) -> int:
        """Answer with one page, or with this worker's part of one that another worker makes."""
        settings = self._source.settings
        wanted = parse_range(
            scope["query_string"],
            self._table,
            rows_default=settings.page_rows_default,
            rows_max=settings.page_rows_max,
        )
        if isinstance(wanted, Problem):
            return await wanted.send(send)
        asked = asked or Asked()
        numbers = parse_partitions(scope, self._table.partitions)
        if isinstance(numbers, Problem):
            return await numbers.send(send)
        views = self._views(range(self._table.partitions) if numbers is None else numbers)
        if views is None and (is_hopped(scope) or numbers is not None):
            return await NOT_OWNED.send(send)
        if views is None:
            return await self._fan.respond(wanted, scope, send, asked)
        try:
            asked = await self._source.waits.reach(asked, views)
        except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
            return await self._source.waits.problem(error, views).send(send)
        return await self._answer(views, wanted, asked, send, is_part=numbers is not None)

    async def _answer(
        self, views: Sequence[PartitionView], wanted: RowRange, asked: Asked, send: Send, *, is_part: bool
    ) -> int:
        keys, prefix_size = self._table.keys, len(self._table.row_prefix)

        def page(part: Part) -> bytes:
            return part.encode() if is_part else page_of([part], keys, prefix_size, wanted.rows_max)

        try:
            taken = await self._reader.read(views, wanted, page)
            more = self._source.waits.headers(asked, taken.frozen)
            token = Token.of(taken.position, self._source.catalog, taken.seen)
        except StillRecovering:
            return await RECOVERING.send(send)
        except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
            return await problem_of(error).send(send)
        return await send_page(send, taken.result, _PART if is_part else _JSON, token, more)

    def _views(self, numbers: Sequence[int]) -> Sequence[PartitionView] | None:
        """These partitions, or none of them where one is not here."""
        found = (self._source.view(self._table.group, number) for number in numbers)
        views = [view for view in found if view is not None]
        return views if len(views) == len(numbers) else None
