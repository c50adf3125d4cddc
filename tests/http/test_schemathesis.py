"""What /openapi.json says is true: thousands of requests made from it, each answer held to it.

`HEADRACE_TEST_SCHEMATHESIS=100000` sends as many; the seeds are the same in every run.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import hypothesis
import jsonschema_rs
import msgspec
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.python.asgi import ASGIClient
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from headrace.events.key import key_codec
from headrace.events.token import Token
from tests.http.bazaar import KEYS
from tests.http.elsewhere import Elsewhere, bazaar_elsewhere
from tests.service import quick

Case = schemathesis.Case[Any]
CASES = int(os.environ.get("HEADRACE_TEST_SCHEMATHESIS", "3000"))
PER_SEED = 500
TOKEN = "a token of this test"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
SETTINGS = quick(tokens=(sha256(TOKEN.encode()).hexdigest(),), read_wait_s=1.0, read_wait_max_s=1.0)
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
REACHED = {200, 201, 204, 304, 400, 401, 404, 405, 409, 422}
"""Statuses that every run has to see: fewer, and the requests have become tame."""


class Examination:
    """A described service, what it was asked, and how it broke its word."""

    def __init__(self, worker: Elsewhere) -> None:
        self.client = ASGIClient(worker)
        self.client.trust_env = False
        answer = self.client.get("/openapi.json", headers=AUTHORIZED)
        assert answer.status_code == 200
        self.document: dict[str, Any] = answer.json()
        self.schema = schemathesis.openapi.from_dict(without_tuples(answer.json()))
        self.schema.app = worker
        self.statuses: Counter[int] = Counter()
        self.sent = 0
        self.token = ""
        self.cursors: dict[str, str] = {}
        self.broken: list[str] = []

    def ask(self, case: Case) -> None:
        """Send one request, and hold the answer to the description."""
        answer = case.call(session=self.client, headers=AUTHORIZED)
        self.sent += 1
        self.statuses[answer.status_code] += 1
        checks = list(CHECKS) if is_not_reached(answer) else [*CHECKS, not_a_server_error]
        try:
            case.validate_response(answer, checks=checks)
            self._check_tuples(case, answer)
        except (FailureGroup, Failure, jsonschema_rs.ValidationError) as failure:
            said = "; ".join(str(each) for each in getattr(failure, "exceptions", [failure]))
            self.broken.append(f"{case.method} {answer.request.url} -> {answer.status_code}: {said}")
        self._remember(case, answer)

    def told(self) -> str:
        """What was seen so far."""
        shown = " ".join(f"{status}:{count}" for status, count in sorted(self.statuses.items()))
        return f"{self.sent} requests, {len(self.broken)} answered otherwise than described; {shown}"

    def _check_tuples(self, case: Case, answer: Any) -> None:
        """Hold pages of tuples to the schema itself, which the tool cannot read."""
        path = case.operation.path
        if path == "/places" and answer.status_code == 200:
            described = self.document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            schema = {**described["schema"], "components": self.document["components"]}
            jsonschema_rs.Draft202012Validator(schema).validate(answer.json())

    def _remember(self, case: Case, answer: Any) -> None:
        for token in answer.headers.get("headrace-position", []):
            self.token = token
        if answer.status_code == 200 and case.operation.path.strip("/") in KEYS:
            self.cursors[case.operation.path] = answer.json()["cursor"] or ""

    def enumerated(self) -> Iterator[Case]:
        """Each part of each operation at its bounds and just beyond, one after the other."""
        for found in self.schema.get_all_operations():
            assert isinstance(found, Ok)
            yield from self.schema.iter_coverage_cases(
                found.ok(), generation_modes=list(GenerationMode), generation_config=GenerationConfig()
            )

    def drawn(self, seed: int, count: int, judge: Callable[[Case], None]) -> None:
        """Judge as many random requests, most of them by the description, some against it."""
        strategies = [self.schema.as_strategy(generation_mode=mode) for mode in GenerationMode]

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=st.one_of(*strategies))
        def run(case: Case) -> None:
            judge(case)

        run()

    def aimed(self, case: Case, chance: random.Random) -> Case:
        """The same request at what is there: a key with a row, a true position, the rows behind a cursor."""
        table = case.operation.path.split("/")[1]
        if table in KEYS and "key" in (case.path_parameters or {}):
            case.path_parameters["key"] = chance.choice(texts(table))
            if chance.random() < 0.3:
                case.headers["Accept"] = "text/event-stream"
        elif table in KEYS and case.method == "GET":
            names = chance.sample(["start", "end", "limit", "cursor"], chance.randrange(4))
            at = {"limit": str(chance.randrange(1, 4)), "cursor": self.cursors.get(f"/{table}") or ""}
            case.query = {
                name: at.get(name) or chance.choice(texts(table)) for name in names if name != "cursor"
            }
            if at["cursor"] and "cursor" in names:
                case.query["cursor"] = at["cursor"]
        if case.operation.path == "/purchases":
            case.body, case.media_type = {"type": "Counted", "n": chance.randrange(4)}, "application/json"
        foreign = Token.parse(self.token)._replace(cluster=b"else").text()
        levels: list[dict[str, str]] = [
            {},
            {"Headrace-Position": self.token},
            {"Headrace-Consistency": "latest"},
            {"Prefer": "wait=0"},
            {"Headrace-Position": foreign},
        ]
        for name in ("Headrace-Position", "Headrace-Consistency", "Prefer"):
            case.headers.pop(name, None)
        case.headers.update(chance.choice(levels))
        if chance.random() < 0.1:
            case.headers["If-None-Match"] = "*"
        return case


def texts(table: str) -> list[str]:
    """The keys of a table's rows as they stand in a URL."""
    key_type, keys = KEYS[table]
    codec = key_codec(key_type)
    written = [codec.to_json(key) for key in keys]
    if key_type is str:
        return [text for text in written if text not in (".", "..")]
    return [text if isinstance(text, str) else msgspec.json.encode(text).decode() for text in written]


def is_not_reached(answer: Any) -> bool:
    """Whether this is the one 5xx that is no fault: what was asked for is not there in time, as it says."""
    asked = {"headrace-position", "headrace-consistency"} & {name.lower() for name in answer.request.headers}
    return (
        answer.status_code == 503
        and bool(asked)
        and answer.json().get("error") == "NotReached"
        and "retry-after" in answer.headers
    )


def without_tuples(document: Any) -> Any:
    """The description with the parts of tuples in any order: schemathesis makes an invalid schema of them."""
    if isinstance(document, list):
        return [without_tuples(part) for part in document]
    if not isinstance(document, dict):
        return document
    plain = {name: without_tuples(part) for name, part in document.items()}
    if "prefixItems" in plain:
        plain["items"] = {"anyOf": plain.pop("prefixItems")}
    return plain


@pytest.mark.timeout(300 + CASES / 5)
def test_every_answer_is_as_the_description_says(capsys: pytest.CaptureFixture[str]) -> None:
    with bazaar_elsewhere(SETTINGS) as worker:
        it = Examination(worker)
        for case in it.enumerated():
            it.ask(case)
        enumerated, seed = it.sent, 0
        while it.sent < CASES:
            chance = random.Random(seed)

            def both(case: Case, chance: random.Random = chance) -> None:
                it.ask(case)
                it.ask(it.aimed(case, chance))

            it.drawn(seed, min(PER_SEED, (CASES - it.sent + 1) // 2), both)
            seed += 1
            with capsys.disabled():
                sys.stdout.write(f"\n{enumerated} requests enumerated, {seed} seeds drawn: {it.told()}")
        it.client.close()
    assert it.broken[:10] == [], f"{len(it.broken)} of {it.sent}"
    assert set(it.statuses) >= REACHED
    assert it.sent >= CASES
