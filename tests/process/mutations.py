"""Real events as broken producers, cables and people might leave them: seeded, and cheap."""

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from headrace.events.envelope import HEADER, Headers

Members = dict[str, Any]
_AT_ONCE = 6
"""Most bytes that one blow changes."""
_ODD_NUMBERS = (
    "1e400", "-1e400", "1e3", "1.0", "0.5", "-0", "-0.0", "-1", "00", "+1", "1_0", "0x10", ".5", "5.", "NaN",
    "Infinity", "-Infinity", "1E", "--1", "2147483648", "9007199254740993", "9223372036854775807",
    "9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
    "1" + "0" * 40, "-" + "7" * 120, "3" * 310, "8" * 4_301, "9" * 5_000,
)  # fmt: skip
_WRONG: tuple[Any, ...] = (
    None, True, False, "", "1", "null", "\x00", "é", [], {}, [1], [[]], {"a": 1}, 1.5, -1, "2017-13-45",
    "0000-00-00", "2017-1-1", "2017-06-31T00:00:00Z", "\ud800", "\udc00x",
)  # fmt: skip
_TYPES = ("BasketSold", "", "basketpurchased", "BasketPurchased ", "CouponRedeemed", "Event", "\x00", None, 7)
_ENVELOPE = struct.Struct(">BB16sq")


class Mutated(NamedTuple):
    """A record as it goes into the log."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class Mutator:
    """Breaks records in one of many ways, each chosen by its own seed."""

    def __init__(self, chosen_by: int) -> None:
        self._fate = random.Random(chosen_by)
        self._foreign = made_json(chosen_by)
        self._kinds: Sequence[Callable[[Mutated], Mutated]] = (
            *(self._value(change) for change in (_flip, _cut, _cut_out, _insert, _double, _swap_bytes)),
            *(self._value(change) for change in (_noise, _invalid_utf8, _wrap, _raw_number)),
            *(self._members(change) for change in (_swap, _wrong_type, _drop, _rename, _other_type, _extra)),
            *(self._members(change) for change in (_wrong_type_deep, _other_subject)),
            self._made,
            self._no_value,
            self._key,
            self._header,
        )

    def mutate(self, key: bytes, value: bytes, headers: Headers) -> Mutated:
        """The record, broken in one way, or in a few."""
        found = Mutated(key, value, headers)
        for _ in range(self._fate.choice((1, 1, 1, 2, 3))):
            found = self._fate.choice(self._kinds)(found)
        return found

    def _value(self, change: Callable[[random.Random, bytes], bytes]) -> Callable[[Mutated], Mutated]:
        def changed(record: Mutated) -> Mutated:
            return record._replace(value=change(self._fate, record.value or b"null"))

        return changed

    def _members(self, change: Callable[[random.Random, Members], None]) -> Callable[[Mutated], Mutated]:
        def changed(record: Mutated) -> Mutated:
            try:
                members = json.loads(record.value or b"null")
            except (ValueError, RecursionError):
                return record  # an earlier blow has left no JSON
            if not isinstance(members, dict) or not members:
                return record
            change(self._fate, members)
            return record._replace(value=json.dumps(members, separators=(",", ":")).encode())

        return changed

    def _made(self, record: Mutated) -> Mutated:
        return record._replace(value=self._fate.choice(self._foreign))

    def _no_value(self, record: Mutated) -> Mutated:
        return record._replace(value=self._fate.choice((None, b"", b" ", b"{}", b"[]", b"null")))

    def _key(self, record: Mutated) -> Mutated:
        fate, key = self._fate, record.key or b"1"
        forms = (
            lambda: None,
            lambda: b"",
            lambda: _flip(fate, key),
            lambda: _insert(fate, key),
            lambda: b"0" + key,
            lambda: b"%d" % fate.randrange(-5, 3_000),
            lambda: fate.randbytes(fate.randrange(1, 200)),
            lambda: b"\x00" * fate.randrange(1, 9),
        )
        return record._replace(key=fate.choice(forms)())

    def _header(self, record: Mutated) -> Mutated:
        fate = self._fate
        envelope = dict(record.headers).get(HEADER, b"")
        forms: tuple[Callable[[], Headers], ...] = (
            lambda: (),
            lambda: ((HEADER, _flip(fate, envelope)),),
            lambda: ((HEADER, envelope[: fate.randrange(len(envelope) + 1)]),),
            lambda: ((HEADER, _ENVELOPE.pack(1, 3, fate.randbytes(16), -1)),),
            lambda: ((HEADER, _ENVELOPE.pack(9, 0, fate.randbytes(16), 0)),),
            lambda: ((HEADER, b""), *record.headers),
            lambda: (("ce_specversion", b"1.0"), ("ce_id", fate.randbytes(4))),
            lambda: (*record.headers, ("traceparent", fate.randbytes(55)), ("tracestate", b"\xff=,=")),
            lambda: (*record.headers, ("", b""), ("é\x00", fate.randbytes(9)), ("x" * 300, b"y" * 300)),
            # As it is when somebody pipes dead letters back into the topic they came from.
            lambda: (*record.headers, *_DEAD, *_DEAD[:4], ("headrace-dead-letter", b"not:a place")),
        )
        return record._replace(headers=fate.choice(forms)())


_DEAD = tuple(
    ("headrace-dead-" + name, content)
    for name, content in (
        ("topic", b"elsewhere"), ("partition", b"77"), ("offset", b"x"), ("timestamp", b"1"), ("group", b"g"),
        ("agent", b"a"), ("error", b"\xff"), ("reason", b"r"), ("at", b"2"),
    )
)  # fmt: skip

# --- bytes


def _at(fate: random.Random, raw: bytes) -> int:
    return fate.randrange(len(raw) + 1)


def _flip(fate: random.Random, raw: bytes) -> bytes:
    changed = bytearray(raw or b"\0")
    for _ in range(fate.randint(1, _AT_ONCE)):
        changed[fate.randrange(len(changed))] ^= 1 << fate.randrange(8)
    return bytes(changed)


def _cut(fate: random.Random, raw: bytes) -> bytes:
    return raw[: _at(fate, raw)]


def _cut_out(fate: random.Random, raw: bytes) -> bytes:
    start = _at(fate, raw)
    return raw[:start] + raw[start + fate.randint(1, 4 * _AT_ONCE) :]


def _insert(fate: random.Random, raw: bytes) -> bytes:
    at = _at(fate, raw)
    inserted = fate.choice(
        (fate.randbytes(fate.randint(1, _AT_ONCE)), fate.choice(b'0123456789"{}[],:-.eE').to_bytes())
    )
    return raw[:at] + inserted + raw[at:]


def _double(fate: random.Random, raw: bytes) -> bytes:
    start, stop = sorted((_at(fate, raw), _at(fate, raw)))
    return raw[:stop] + raw[start:]


def _swap_bytes(fate: random.Random, raw: bytes) -> bytes:
    first, second = sorted((_at(fate, raw), _at(fate, raw)))
    return raw[second:] + raw[first:second] + raw[:first]


def _noise(fate: random.Random, raw: bytes) -> bytes:
    return fate.randbytes(fate.randint(1, 60))


def _invalid_utf8(fate: random.Random, raw: bytes) -> bytes:
    at = _at(fate, raw)
    return (
        raw[:at]
        + fate.choice((b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"))
        + raw[at:]
    )


def _wrap(fate: random.Random, raw: bytes) -> bytes:
    forms: tuple[Callable[[], bytes], ...] = (
        lambda: b"\xef\xbb\xbf" + raw,
        lambda: b" \r\n\t" + raw + b"\n ",
        lambda: b"[" + raw + b"]",
        lambda: json.dumps(raw.decode("latin-1")).encode(),
        lambda: raw + raw,
        lambda: raw.decode("latin-1").encode("utf-16"),
        lambda: b'{"x":' * 5_000 + raw,
        lambda: b"[" * 100_000,
        lambda: raw.replace(b'{"', b'{"deep":' + b"[" * 90 + b"]" * 90 + b',"', 1),
    )
    return fate.choice(forms)()


def _raw_number(fate: random.Random, raw: bytes) -> bytes:
    """Put a number where one is, by bytes: JSON writers do not write most of these."""
    places = [
        at
        for at in range(1, len(raw))
        if raw[at : at + 1].isdigit() and raw[at - 1 : at] in (b":", b",", b"[")
    ]
    if not places:
        return raw
    start = stop = fate.choice(places)
    while stop < len(raw) and raw[stop : stop + 1].isdigit():
        stop += 1
    # A sum that holds one of 4,300 digits takes no more: rare, or households would be used up.
    number = "9" * 4_300 if fate.random() < 0.005 else fate.choice(_ODD_NUMBERS)
    return raw[:start] + number.encode() + raw[stop:]


# --- members


def _name(fate: random.Random, members: Members) -> str:
    return fate.choice(list(members))


def _swap(fate: random.Random, members: Members) -> None:
    first, second = _name(fate, members), _name(fate, members)
    members[first], members[second] = members[second], members[first]


def _wrong_type(fate: random.Random, members: Members) -> None:
    members[_name(fate, members)] = fate.choice(_WRONG)


def _wrong_type_deep(fate: random.Random, members: Members) -> None:
    lines = members.get("lines")
    if not isinstance(lines, list) or not lines or not isinstance(lines[0], list):
        return _wrong_type(fate, members)
    line = fate.choice(lines)
    if not isinstance(line, list):
        return None
    change: Callable[[], object] = fate.choice(
        (
            lambda: line.append(fate.choice(_WRONG)),
            lambda: line.pop() if line else None,
            lambda: line.insert(0, fate.choice(_WRONG)),
            line.reverse,
            lambda: fate.shuffle(lines),
            lines.clear,
            lambda: lines.extend(lines[:50]),
            lambda: lines.append(fate.choice(_WRONG)),
        )
    )
    change()
    return None


def _drop(fate: random.Random, members: Members) -> None:
    del members[_name(fate, members)]


def _rename(fate: random.Random, members: Members) -> None:
    name = _name(fate, members)
    members[fate.choice((name.upper(), name + " ", "_" + name, name[:-1], "\ud800"))] = members.pop(name)


def _other_type(fate: random.Random, members: Members) -> None:
    members["type"] = fate.choice(_TYPES)


def _other_subject(fate: random.Random, members: Members) -> None:
    """An event about somebody who lives in another partition, or in this one by luck."""
    name = "campaign_id" if "first_day" in members else "household_id"
    members[name] = fate.choice((fate.randrange(1, 2_500), fate.randrange(10**6), -fate.randrange(10**6)))


def _extra(fate: random.Random, members: Members) -> None:
    members[fate.choice(("", "extra", "Type", "household", "é"))] = fate.choice(_WRONG)


# --- JSON that never was an event of ours

_numbers = st.one_of(st.integers(), st.integers(-(2**70), 2**70), st.floats())
_texts = st.text(st.characters(exclude_categories=()), max_size=12)
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, _texts),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=8,
)
_events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ("BasketPurchased", "CouponRedeemed", "CampaignAnnounced", "RedemptionCorrected")
        )
    },
    optional={
        "household_id": st.integers(1, 2_500) | _json,
        "basket_id": _numbers,
        "store_id": _numbers,
        "at": st.datetimes().map(lambda at: at.isoformat()) | _texts,
        "day": st.dates().map(lambda day: day.isoformat()) | _texts,
        "lines": st.lists(st.lists(st.integers(), min_size=5, max_size=7), max_size=3) | _json,
        "coupon_upc": _numbers,
        "campaign_id": _numbers,
        "kind": _texts,
        "first_day": st.dates().map(lambda day: day.isoformat()),
        "last_day": st.dates().map(lambda day: day.isoformat()) | _json,
        "corrects": _texts,
        "reason": _texts,
    },
)


def made_json(chosen_by: int, count: int = 500) -> Sequence[bytes]:
    """JSON by hypothesis: the same for the same seed."""
    found: list[bytes] = []

    @seed(chosen_by)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_events | _json)
    def collect(example: Any) -> None:
        found.append(json.dumps(example).encode())

    collect()
    return found
