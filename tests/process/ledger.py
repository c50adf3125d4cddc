"""The ledger of a chaos run: what was put into the log, and what the tables must hold for it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import httpx
import msgspec

from agents.loyalty import _department_of as department_of
from app.grocery import GroceryYear
from app.loyalty import baskets as basket_topic
from app.loyalty import promotions as promotions_topic
from headrace.events.envelope import Envelope, fresh_event_id, id_text
from headrace.events.position import TopicPartition
from headrace.flow.sending import Outbox
from headrace.log.port import Log, Writer
from headrace.tables.changelog import POSITION_KEY
from schemas.checkout import BasketPurchased
from schemas.loyalty import RedemptionCorrected
from schemas.promotions import CouponRedeemed
from tables.loyalty import Balance, balances, department_spend, spend_by_department
from tests.process.workers import Worker

PARTITIONS = 8
_FIRST_BASKET = 70_000
"""In June two large campaigns run, so that the load has redemptions of both kinds."""


class Ledger:
    """Appends real baskets and redemptions round by round, and folds them in a plain model.

    A redemption is appended one round after its household's last basket of that day, when the
    tables have been seen to contain that basket: so the model needs no order across topics.
    """

    def __init__(self, year: GroceryYear, writer: Writer) -> None:
        self._year = year
        self._writer = writer
        self._due_by_basket = {day.baskets[-1]: day.redemptions for day in year.days_with_redemption()}
        self._due: list[CouponRedeemed] = []
        self._at = _FIRST_BASKET
        self._coupon_days: dict[int, set[date]] = defaultdict(set)
        self.ends: dict[str, int] = {}
        """`topic/partition` to the offset after what was appended."""
        self.events = 0
        self.balances: dict[int, Balance] = defaultdict(Balance)
        self.departments: dict[int, dict[str, int]] = defaultdict(dict)
        self.redemptions: dict[int, list[bool]] = defaultdict(list)
        self.corrections: Counter[str] = Counter()

    def round(self, baskets: int) -> Sequence["Appendix"]:
        """The appends of the next round, in order: due redemptions among baskets."""
        due, self._due = self._due, []
        stop = min(self._at + baskets, len(self._year.baskets))
        pieces: list[Any] = [self._year.baskets[at] for at in range(self._at, stop)]
        for at in range(self._at, stop):
            self._due.extend(self._due_by_basket.get(at, ()))
        self._at = stop
        step = max(1, len(pieces) // (len(due) + 1))
        for index, redeemed in enumerate(due):
            pieces.insert(min(len(pieces), (index + 1) * step), redeemed)
        return [Appendix(self, pieces[start : start + 25]) for start in range(0, len(pieces), 25)]

    async def append(self, events: Iterable[BasketPurchased | CouponRedeemed]) -> None:
        """Append some events in one transaction, and fold them."""
        names = {basket_topic.name: PARTITIONS, promotions_topic.name: PARTITIONS}
        outbox = Outbox("tills", names, record_bytes_max=1_000_000)
        for event in events:
            event_id = fresh_event_id()
            topic = basket_topic if isinstance(event, BasketPurchased) else promotions_topic
            time_ms = outbox.now_ms()
            outbox.add(
                topic,
                topic.keys.to_wire(event.household_id),
                topic.values.encode(event),
                outbox.encoded(topic, Envelope(event_id, time_ms), type(event).__name__),
                keyless_partition=0,
                time_ms=time_ms,
            )
            self._fold(event, id_text(event_id))
        for (topic_name, partition), end in (await self._writer.commit(outbox.to_append())).items():
            self.ends[f"{topic_name}/{partition}"] = end

    def _fold(self, event: BasketPurchased | CouponRedeemed, event_id: str) -> None:
        self.events += 1
        household = event.household_id
        if isinstance(event, BasketPurchased):
            self.balances[household] = self.balances[household].earn(event)
            spend = self.departments[household]
            self.departments[household] = spend_by_department(spend, event, department_of)
            if event.has_coupon_discount:
                self._coupon_days[household].add(event.day)
            return
        is_honoured = event.day in self._coupon_days[household]
        self.redemptions[household].append(is_honoured)
        if is_honoured:
            self.balances[household] = self.balances[household].reward()
        else:
            self.corrections[event_id] += 1


class Appendix:
    """Some events that are appended together."""

    def __init__(self, ledger: Ledger, events: Sequence[BasketPurchased | CouponRedeemed]) -> None:
        self._ledger = ledger
        self._events = events

    async def append(self) -> None:
        """Append them."""
        await self._ledger.append(self._events)


async def read_all(log: Log, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Key and value of every committed record of a topic, partition by partition."""
    infos = await log.describe([topic])
    if topic not in infos:
        return []
    records: list[tuple[bytes | None, bytes | None]] = []
    for partition in range(infos[topic].partitions):
        place = TopicPartition(topic, partition)
        held = (await log.offsets([place]))[place]
        at = held.start
        reader = await log.reader({place: at})
        try:
            while at < held.end:
                for chunk in await reader.fetch(records_max=5_000, bytes_max=4 << 20):
                    records.extend(zip(chunk.keys, chunk.values, strict=True))
                    at = chunk.offset_next
        finally:
            await reader.close()
    return records


async def check_reads(client: httpx.AsyncClient, crew: Sequence[Worker], ledger: Ledger) -> None:
    """Table over HTTP == ledger, for every household and every table."""
    for household, balance in ledger.balances.items():
        row = await _read(client, crew, f"/balances/{household}")
        assert msgspec.json.encode(balance) == row, household
    for household, spend in ledger.departments.items():
        assert msgspec.json.decode(await _read(client, crew, f"/departments/{household}")) == spend, household
    for household, verdicts in ledger.redemptions.items():
        row = msgspec.json.decode(await _read(client, crew, f"/redemptions/{household}"))
        assert [each["is_honoured"] for each in row] == verdicts, household


async def _read(client: httpx.AsyncClient, crew: Sequence[Worker], path: str) -> bytes:
    """The row from whichever worker owns it; the others must say that they do not."""
    for worker in crew:
        answer = await worker.get(client, path)
        if answer.status_code == 200:
            return answer.content
        assert answer.status_code == 503, (path, answer.status_code, answer.text)
    raise AssertionError(f"no worker owns {path}")


async def check_log(log: Log, ledger: Ledger) -> None:
    """Changelog fold == ledger, and each correction is visible to committed readers once."""
    fold: dict[bytes, bytes] = {}
    for key, value in await read_all(log, "loyalty.main.changelog"):
        assert key is not None
        if key == POSITION_KEY:
            continue
        if value is None:
            fold.pop(key, None)
        else:
            fold[key] = value
    for household, balance in ledger.balances.items():
        key = balances.row_prefix + balances.keys.to_store(household)
        assert fold[key] == msgspec.json.encode(balance), household
    stored = sum(key.startswith(balances.row_prefix) for key in fold)
    assert stored == len(ledger.balances)
    assert sum(key.startswith(department_spend.row_prefix) for key in fold) == len(ledger.departments)

    sent = [
        msgspec.json.decode(value or b"", type=RedemptionCorrected)
        for _, value in await read_all(log, "loyalty.events")
    ]
    assert Counter(correction.corrects for correction in sent) == ledger.corrections
