"""The reference system once more, as plain as can be: dicts over `json`, nothing of ours but the partitioner.

It says of every record whether the services must apply it, and what their tables then hold.
"""

import json
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from headrace.events.envelope import Headers
from headrace.events.partitioner import Partitioner
from headrace.events.position import TopicPartition
from tests.process.plain_envelope import Refused, check_envelope, event_id

Row = dict[str, Any]

_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|z|[+-][0-9]{2}:?[0-9]{2})?"
)
_UUID = re.compile("[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER_END = 10**4_300
"""Integers of more digits are not read and not written, here as there."""
_KEY_END = 2 ** (8 * 127)
_LINE_FIELDS = 6
_PARTITIONS = 8


class _TooLong:
    """Stands for an integer of too many digits."""


# --- JSON


def _integer(digits: str) -> Any:
    return int(digits) if len(digits.lstrip("-")) <= 4_300 else _TooLong()


def _no_number(name: str) -> Any:
    raise Refused(name)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, list[Any]]:
    """Each name's values: a name that comes twice must fit twice, and the last one counts."""
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        if _SURROGATE.search(name):
            raise Refused("half a character")
        found.setdefault(name, []).append(value)
    return found


def _check_text(value: Any) -> None:
    """No half of a character anywhere, even where nobody reads it."""
    if isinstance(value, str) and _SURROGATE.search(value):
        raise Refused("half a character")
    for part in _parts(value):
        _check_text(part)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for parts in value.values() for part in parts]
    return value if isinstance(value, list) else []


def _event(raw: bytes, types: tuple[str, ...]) -> tuple[str, Mapping[str, list[Any]]]:
    """Type and members. Text that is no UTF-8 is refused where it is read, and only there."""
    try:
        event = json.loads(
            raw.decode("utf-8", "replace"),
            parse_int=_integer,
            parse_constant=_no_number,
            object_pairs_hook=_members,
        )
        _check_text(event)
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from error
    if not isinstance(event, dict):
        raise Refused("no object")
    said = event.get("type", list(types) if len(types) == 1 else [])
    # A topic with one type of event does not need to hear it.
    if not said or any(each != said[0] for each in said) or said[0] not in types:
        raise Refused("another type")
    return said[0], event


def _all(event: Mapping[str, list[Any]], name: str, fits: Any) -> Any:
    if name not in event or not all(fits(value) for value in event[name]):
        raise Refused(name)
    return event[name][-1]


def _is_integer(value: Any) -> bool:
    return type(value) is int


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\ufffd" not in value


def _is_day(value: Any) -> bool:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_moment(value: Any) -> bool:
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        return False
    try:
        moment(value)
    except ValueError:
        return False
    return True


def moment(text: str) -> datetime:
    """The time behind its text."""
    return datetime.fromisoformat(text.upper())


def _are_lines(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(line, list) and len(line) >= _LINE_FIELDS and all(map(_is_integer, line[:_LINE_FIELDS]))
        for line in value
    )


class Plain:
    """One service's tables, and what becomes of each record of its inputs."""

    _is_dead = False
    _at = (TopicPartition("", 0), -1)
    """Where the record in hand lies."""

    def apply(
        self,
        place: TopicPartition,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        *,
        is_dead: bool,
    ) -> None:
        """Fold one record. Raises: Refused, and then nothing has changed.

        Shape: `is_dead` says what became of it. It is asked for in one case only: a sum that is too
        long for JSON is refused where it has to be written, and another event of the same unit may
        have replaced it before that.
        """
        if key is None:
            raise Refused("no key")
        self._is_dead = is_dead
        check_envelope(headers)
        self._at = (place, offset)
        getattr(self, place.topic.replace(".", "_"))(place.partition, value, headers)

    def _check_size(self, *numbers: int) -> None:
        if self._is_dead and any(abs(number) >= _INTEGER_END for number in numbers):
            raise Refused("a sum of too many digits")


def _check_home(subject: int, partition: int) -> None:
    if abs(subject) >= _KEY_END:
        raise Refused("a key of too many digits")
    if Partitioner.MURMUR2.place(b"%d" % subject, _PARTITIONS) != partition:
        raise Refused("the subject lives elsewhere")


def _basket(value: bytes | None) -> Row:
    """A basket; no till of these tests corrects one, and a mutation makes no correction of it."""
    if value is None:
        raise Refused("a tombstone")
    kind, event = _event(value, ("BasketPurchased", "BasketCorrected"))
    if kind == "BasketCorrected":
        raise Refused("a correction of nothing")
    return {
        "household": _all(event, "household_id", _is_integer),
        "basket": _all(event, "basket_id", _is_integer),
        "store": _all(event, "store_id", _is_integer),
        "at": _all(event, "at", _is_moment),
        "day": _all(event, "day", _is_day),
        "lines": _all(event, "lines", _are_lines),
    }


def _promotion(value: bytes) -> tuple[str, Row]:
    kind, event = _event(value, ("CampaignAnnounced", "CouponRedeemed"))
    if kind == "CampaignAnnounced":
        return kind, {
            "campaign": _all(event, "campaign_id", _is_integer),
            "kind": _all(event, "kind", _is_text),
            "first_day": _all(event, "first_day", _is_day),
            "last_day": _all(event, "last_day", _is_day),
        }
    return kind, {
        "household": _all(event, "household_id", _is_integer),
        "coupon_upc": _all(event, "coupon_upc", _is_integer),
        "campaign_id": _all(event, "campaign_id", _is_integer),
        "day": _all(event, "day", _is_day),
    }


class Checkout(Plain):
    """The last receipt of each household."""

    def __init__(self) -> None:
        self.receipts: dict[int, Row] = {}

    def checkout_events(self, partition: int, value: bytes | None, headers: Headers) -> None:
        """A basket."""
        basket = _basket(value)
        _check_home(basket["household"], partition)
        lines = basket["lines"]
        receipt = {
            "basket_id": basket["basket"],
            "store_id": basket["store"],
            "at": basket["at"],
            "items": len(lines),
            "sales_cents": sum(line[2] for line in lines),
            "discount_cents": sum(line[3] + line[4] + line[5] for line in lines),
        }
        kept = self.receipts.get(basket["household"])
        if kept is None or _is_newer(receipt, kept):
            self._check_size(receipt["sales_cents"], receipt["discount_cents"])
            self.receipts[basket["household"]] = receipt


def _is_newer(receipt: Row, kept: Row) -> bool:
    try:
        return (moment(receipt["at"]), receipt["basket_id"]) > (moment(kept["at"]), kept["basket_id"])
    except TypeError as error:
        raise Refused("a time of nowhere beside one of somewhere") from error


class Loyalty(Plain):
    """Sums, departments and redemptions of each household."""

    def __init__(self, departments: Mapping[int, str]) -> None:
        self._departments = departments
        self._coupon_days: dict[int, set[str]] = {}
        self.balances: dict[int, Row] = {}
        self.spend: dict[int, dict[str, int]] = {}
        self.redemptions: dict[int, list[Row]] = {}
        self.corrections: list[Row] = []

    def checkout_events(self, partition: int, value: bytes | None, headers: Headers) -> None:
        """A basket."""
        basket = _basket(value)
        household, lines = basket["household"], basket["lines"]
        _check_home(household, partition)
        paid = sum(line[2] for line in lines)
        balance = self._balance(household)
        balance["spend_cents"] += paid
        balance["discount_cents"] += sum(line[3] + line[4] + line[5] for line in lines)
        balance["visits"] += 1
        balance["points"] += paid // 100
        spend = dict(self.spend.get(household, {}))
        for line in lines:
            department = self._departments.get(line[0], "UNKNOWN")
            spend[department] = spend.get(department, 0) + line[2]
        self._check_size(*balance.values(), *spend.values())
        self.balances[household], self.spend[household] = balance, spend
        if any(line[4] for line in lines):
            self._coupon_days.setdefault(household, set()).add(basket["day"])

    def _balance(self, household: int) -> Row:
        nothing = {"spend_cents": 0, "discount_cents": 0, "visits": 0, "points": 0}
        return dict(self.balances.get(household, nothing))

    def promotions_events(self, partition: int, value: bytes | None, headers: Headers) -> None:
        """A redemption; campaigns and tombstones say nothing to loyalty."""
        if value is None:
            return
        kind, redeemed = _promotion(value)
        if kind == "CampaignAnnounced":
            return
        household = redeemed.pop("household")
        _check_home(household, partition)
        is_honoured = redeemed["day"] in self._coupon_days.get(household, ())
        if is_honoured:
            balance = self._balance(household)
            balance["points"] += 50
            self._check_size(balance["points"])
            self.balances[household] = balance
        else:
            correction = {"corrects": event_id(headers, *self._at), "household_id": household, **redeemed}
            self.corrections.append(correction)
        self.redemptions.setdefault(household, []).append(redeemed | {"is_honoured": is_honoured})


class Promotions(Plain):
    """Campaigns, and the coupons of each household."""

    def __init__(self) -> None:
        self.campaigns: dict[int, Row] = {}
        self.coupons: dict[int, Row] = {}
        self._counts: dict[int, dict[str, bool]] = {}
        """By household and event id whether a redemption counts."""

    def promotions_events(self, partition: int, value: bytes | None, headers: Headers) -> None:
        """A campaign or a redemption; a tombstone says nothing."""
        if value is None:
            return
        kind, event = _promotion(value)
        if kind == "CampaignAnnounced":
            campaign = event.pop("campaign")
            _check_home(campaign, partition)
            self.campaigns[campaign] = event
        else:
            household = event["household"]
            redeemed = event_id(headers, *self._at)
            _check_home(household, partition)
            self._counts.setdefault(household, {}).setdefault(redeemed, True)
            self._book(household)["redeemed"] += 1

    def loyalty_events(self, partition: int, value: bytes | None, headers: Headers) -> None:
        """A correction."""
        if value is None:
            raise Refused("a tombstone")
        _, event = _event(value, ("RedemptionCorrected",))
        if not _UUID.fullmatch(_all(event, "corrects", _is_text)):
            raise Refused("no id of an event")
        if not _all(event, "reason", _is_text).strip():
            raise Refused("no reason")
        for name in ("coupon_upc", "campaign_id"):
            _all(event, name, _is_integer)
        _all(event, "day", _is_day)
        household = _all(event, "household_id", _is_integer)
        _check_home(household, partition)
        counts = self._counts.get(household, {})
        corrected = _all(event, "corrects", _is_text).lower()
        if corrected not in counts:
            raise Refused("it corrects nothing that is known")
        if counts[corrected]:
            counts[corrected] = False
            self._book(household)["corrected"] += 1

    def _book(self, household: int) -> Row:
        return self.coupons.setdefault(household, {"redeemed": 0, "corrected": 0})
