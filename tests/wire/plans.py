"""Seeds to plans: which requests of a case fail, and how."""

import random

from headrace.log.kafka.codes import Code
from headrace.log.kafka.transactions import Scheme
from tests.wire.frames import Api
from tests.wire.script import Fault, Point, Rule
from tests.wire.story import TASKS_MAX, Plan, shapes

_UNITS_MAX = 6
_PAUSE_S = 0.04
"""After so long the markers of the unit before are written, and the next begins another way."""
_SHORT_S, _LONG_S = 0.05, 6.0
"""Within the patience of a case's requests, and beyond it."""
_TRANSACTIONAL = (Api.INIT_PRODUCER_ID, Api.ADD_PARTITIONS, Api.PRODUCE, Api.END_TXN)
_OTHERS = (Api.CONNECT, Api.FIND_COORDINATOR, Api.METADATA, Api.FETCH, Api.LIST_OFFSETS, Api.API_VERSIONS)
_LOST = (
    Fault.CUT_REQUEST,
    Fault.CUT_AFTER_REQUEST,
    Fault.CUT_REPLY,
    Fault.SWALLOW_REQUESTS,
    Fault.SWALLOW_REPLIES,
    Fault.DROP_REPLY,
    Fault.HOLD_REQUEST,
    Fault.HOLD_REPLY,
)
_COORDINATOR = (Code.NOT_COORDINATOR, Code.COORDINATOR_LOADING, Code.COORDINATOR_NOT_AVAILABLE)
_REFUSALS: dict[Api, tuple[Code, ...]] = {
    Api.INIT_PRODUCER_ID: (*_COORDINATOR, Code.CONCURRENT_TRANSACTIONS),
    Api.ADD_PARTITIONS: (*_COORDINATOR, Code.CONCURRENT_TRANSACTIONS, Code.INVALID_PRODUCER_EPOCH),
    Api.END_TXN: (
        *_COORDINATOR,
        Code.CONCURRENT_TRANSACTIONS,
        Code.PRODUCER_FENCED,
        Code.TRANSACTION_ABORTABLE,
    ),
    Api.FIND_COORDINATOR: (Code.COORDINATOR_NOT_AVAILABLE,),
    Api.FETCH: (Code.NOT_LEADER, Code.UNKNOWN_TOPIC_ID, Code.OFFSET_NOT_AVAILABLE, Code.KAFKA_STORAGE_ERROR),
    Api.PRODUCE: (
        Code.NOT_LEADER,
        Code.NOT_ENOUGH_REPLICAS,
        Code.REQUEST_TIMED_OUT,
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.KAFKA_STORAGE_ERROR,
        Code.INVALID_TXN_STATE,
        Code.OUT_OF_ORDER_SEQUENCE,
        Code.CONCURRENT_TRANSACTIONS,
        Code.TRANSACTION_ABORTABLE,
    ),
}
_MISTOLD: dict[Api, tuple[Code, ...]] = {
    Api.PRODUCE: (Code.REQUEST_TIMED_OUT, Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND, Code.NOT_LEADER),
    Api.END_TXN: (Code.COORDINATOR_NOT_AVAILABLE, Code.NOT_COORDINATOR),
    Api.ADD_PARTITIONS: (Code.COORDINATOR_NOT_AVAILABLE,),
    Api.INIT_PRODUCER_ID: (Code.COORDINATOR_NOT_AVAILABLE,),
}


def plan_of(seed: int) -> Plan:
    """The plan of a seed, always the same."""
    chance = random.Random(seed)
    scheme = Scheme.EPOCH_PER_TRANSACTION if seed % 2 else Scheme.EPOCH_PER_OWNER
    tasks = chance.choice([1, 1, 2, TASKS_MAX])
    units = chance.randint(2, _UNITS_MAX if tasks == 1 else _UNITS_MAX // 2)
    rules: dict[Point, Rule] = {}
    for _ in range(chance.choice([1, 1, 2, 2, 3, 4])):
        rule = _rule(chance, tasks * units)
        rules[rule.at] = rule
    rivals = frozenset({chance.randrange(units)} if chance.random() < 0.2 else ())
    pause_s = chance.choice([0.0, _PAUSE_S])
    work = [shapes(chance, units) for _ in range(tasks)]
    return Plan(seed, scheme, work, tuple(rules.values()), rivals, pause_s)


def _rule(chance: random.Random, units: int) -> Rule:
    api = chance.choice(_TRANSACTIONAL if chance.random() < 0.8 else _OTHERS)
    nth = chance.randint(1, 4 if api is Api.INIT_PRODUCER_ID else units + 2)
    at = Point(api, nth)
    if api is Api.CONNECT:
        return Rule(at, Fault.CUT_REQUEST)
    draw = chance.random()
    if api in _REFUSALS and draw < 0.25:
        return Rule(at, Fault.REFUSE, code=chance.choice(_REFUSALS[api]))
    if api in _MISTOLD and draw < 0.35:
        return Rule(at, Fault.MISTELL, code=chance.choice(_MISTOLD[api]))
    fault = chance.choice(_LOST)
    if fault not in (Fault.HOLD_REQUEST, Fault.HOLD_REPLY):
        return Rule(at, fault)
    if fault is Fault.HOLD_REQUEST and chance.random() < 0.6:
        # Delivered in the middle of what comes later: requests on two connections change places.
        other = chance.choice(_TRANSACTIONAL)
        later = Point(other, chance.randint(nth, nth + 2) + (other is api))
        return Rule(at, fault, hold_s=_LONG_S + 1.0, until=later)
    return Rule(at, fault, hold_s=chance.choice([_SHORT_S, _LONG_S]))
