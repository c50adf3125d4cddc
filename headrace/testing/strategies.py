"""hypothesis strategies for the events of a contract, and for sequences of them with crashes in between."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any

from msgspec import inspect

from headrace.app import App
from headrace.errors import DeclarationError
from headrace.flow.topic import Topic
from headrace.testing.items import Compact, Crash, CrashPoint, Poison, Rebalance, Send

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
"""What every JSON reader takes; a declared bound wins."""
_COLLECTION_MAX = 5
_KEYS_MAX = 4
"""Different keys of one sequence: few, so that events meet."""
_AFTER_MAX = 4


def event_sequences(
    topic: Topic[Any, Any],
    *others: Topic[Any, Any],
    key: str,
    fields: "Mapping[str, SearchStrategy[Any]] | None" = None,
    size_max: int = 20,
    crashes: bool = True,
    rebalances: bool = False,
    poison: bool = False,
    app: App | None = None,
    workers: int = 1,
) -> "SearchStrategy[list[Any]]":
    """Sequences for `Harness.run`: events of these topics, with crash points mixed in.

    `key` is the field that holds an event's key; its values are few in one sequence, so that events
    meet. `fields` gives a strategy for fields of that name; the others follow their types and
    `msgspec.Meta`. Needs hypothesis: `pip install headrace[testing]`.
    """
    from hypothesis import strategies as st

    topics = (topic, *others)
    given = dict(fields or {})
    key_values = given.pop(key, None)
    if key_values is None:
        key_values = _key_values(topic, key)

    @st.composite
    def sequence(draw: Any) -> list[Any]:
        pool = draw(st.lists(key_values, min_size=1, max_size=_KEYS_MAX))
        chosen = {**given, key: st.sampled_from(pool)}
        kinds: list[SearchStrategy[Any]] = [
            st.builds(_Sending(each, key), events(each.values.value_type, chosen)) for each in topics
        ]
        if poison:
            raw_keys = [each.keys.to_wire(value) for value in pool for each in topics[:1]]
            kinds.append(st.builds(Poison, st.binary(max_size=16), st.just(topic), st.sampled_from(raw_keys)))
        if crashes:
            kinds.append(_crashes(app, workers))
        if rebalances:
            kinds += [st.just(Rebalance(app)), st.just(Compact())]
        return list(draw(st.lists(st.one_of(kinds), max_size=size_max)))

    return sequence()


class _Sending:
    """Makes an event into an item, with the key that one of its fields holds."""

    def __init__(self, topic: Topic[Any, Any], key: str) -> None:
        self._topic = topic
        self._key = key

    def __call__(self, event: Any) -> Send:
        return Send(self._topic, event, getattr(event, self._key))


def _crashes(app: App | None, workers: int) -> "SearchStrategy[Crash]":
    from hypothesis import strategies as st

    return st.builds(
        Crash,
        at=st.sampled_from(list(CrashPoint)),
        after=st.integers(1, _AFTER_MAX),
        keeps_store=st.booleans(),
        worker=st.integers(0, workers - 1),
        app=st.just(app),
    )


def _key_values(topic: Topic[Any, Any], key: str) -> "SearchStrategy[Any]":
    """Values of the key field, as the first event type of the topic that has it declares it."""
    info = inspect.type_info(topic.values.value_type)
    for part in info.types if isinstance(info, inspect.UnionType) else (info,):
        for part_field in part.fields if isinstance(part, inspect.StructType) else ():
            if part_field.name == key:
                return _of_type(part_field.type, _Context({}))
    raise DeclarationError(f"no event of topic {topic.name} has a field {key}")


def events(
    event_type: Any, fields: "Mapping[str, SearchStrategy[Any]] | None" = None
) -> "SearchStrategy[Any]":
    """Values of a type that a topic or table may declare, all its parts and bounds included.

    `fields` gives a strategy for struct fields of that name, wherever they are. Needs hypothesis.
    """
    return _of_type(inspect.type_info(event_type), _Context(dict(fields or {})))


@dataclass(frozen=True, slots=True)
class _Context:
    """What all parts of one type have in common."""

    fields: "Mapping[str, SearchStrategy[Any]]"
    known: "dict[type, SearchStrategy[Any]]" = field(default_factory=dict)
    """Of the classes that were met: one may hold itself."""


def _of_type(info: inspect.Type, context: _Context) -> "SearchStrategy[Any]":
    from hypothesis import strategies as st

    match info:
        case inspect.Metadata():
            return _of_type(info.type, context)
        case inspect.StructType() | inspect.DataclassType() | inspect.NamedTupleType():
            return _of_fields(info.cls, info.fields, context)
        case inspect.UnionType():
            return st.one_of([_of_type(part, context) for part in info.types])
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            return _collection(info, context)
        case inspect.TupleType():
            return st.tuples(*(_of_type(part, context) for part in info.item_types))
        case inspect.DictType():
            return st.dictionaries(
                _of_type(info.key_type, context),
                _of_type(info.value_type, context),
                min_size=info.min_length or 0,
                max_size=_most(info.min_length, info.max_length),
            )
        case inspect.EnumType():
            return st.sampled_from(list(info.cls))
        case inspect.LiteralType():
            return st.sampled_from(list(info.values))
    return _scalar(info)


def _of_fields(make: type, declared: Sequence[Any], context: _Context) -> "SearchStrategy[Any]":
    from hypothesis import strategies as st

    if make not in context.known:
        # Noted before its fields are looked at, for they may hold another one of its kind.
        context.known[make] = st.deferred(lambda: built)
        parts = {
            each.name: context.fields[each.name]
            if each.name in context.fields
            else _of_type(each.type, context)
            for each in declared
        }
        built = st.builds(make, **parts)
    return context.known[make]


def _most(least: int | None, most: int | None) -> int:
    return max(least or 0, _COLLECTION_MAX) if most is None else min(most, max(least or 0, _COLLECTION_MAX))


def _collection(info: Any, context: _Context) -> "SearchStrategy[Any]":
    from hypothesis import strategies as st

    least, most = info.min_length or 0, _most(info.min_length, info.max_length)
    items = _of_type(info.item_type, context)
    match info:
        case inspect.SetType():
            return st.sets(items, min_size=least, max_size=most)
        case inspect.FrozenSetType():
            return st.frozensets(items, min_size=least, max_size=most)
        case inspect.VarTupleType():
            return st.lists(items, min_size=least, max_size=most).map(tuple)
    return st.lists(items, min_size=least, max_size=most)


def _scalar(info: inspect.Type) -> "SearchStrategy[Any]":
    from hypothesis import strategies as st

    match info:
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return _integers(info)
        case inspect.FloatType():
            least, most = info.ge if info.gt is None else info.gt, info.le if info.lt is None else info.lt
            return st.floats(
                least, most, allow_nan=False, allow_infinity=False,
                exclude_min=info.gt is not None, exclude_max=info.lt is not None,
            )  # fmt: skip
        case inspect.StrType() if info.pattern:
            return st.from_regex(info.pattern, fullmatch=False)
        case inspect.StrType():
            return st.text(min_size=info.min_length or 0, max_size=info.max_length)
        case inspect.BytesType():
            return st.binary(min_size=info.min_length or 0, max_size=info.max_length)
        case inspect.DateTimeType():
            return st.datetimes(timezones=st.none() if info.tz is False else st.just(UTC))
        case inspect.TimeType():
            return st.times(timezones=st.just(UTC) if info.tz else st.none())
    plain: dict[type, Callable[[], SearchStrategy[Any]]] = {
        inspect.DateType: st.dates,
        inspect.TimeDeltaType: lambda: st.timedeltas().map(abs),
        inspect.UUIDType: st.uuids,
        inspect.DecimalType: lambda: st.decimals(allow_nan=False, allow_infinity=False),
    }
    if type(info) not in plain:
        raise DeclarationError(
            f"there is no strategy for {info!r}",
            hint="Give one for the field that has this type: fields={'name': strategy}.",
        )
    return plain[type(info)]()


def _integers(info: inspect.IntType) -> "SearchStrategy[int]":
    from hypothesis import strategies as st

    least = info.ge if info.gt is None else info.gt + 1
    most = info.le if info.lt is None else info.lt - 1
    step = info.multiple_of or 1
    low, high = _INT_MIN if least is None else int(least), _INT_MAX if most is None else int(most)
    return st.integers(-(-low // int(step)), high // int(step)).map(lambda number: number * int(step))
