"""Point reads: what a row's bytes, position and tag promise to a client."""

from urllib.parse import quote

import pytest

from headrace.errors import StoreCorrupt
from headrace.events.token import Token
from headrace.tables.view import PartitionView, ViewState
from tests.http.service import Service, ask, client, served

balances = served("balances", int)
names = served("names", str)


async def test_a_row_is_returned_as_the_json_it_is_stored_as() -> None:
    service = Service(balances)
    service.put(balances, 1029, {"points": 7})
    async with client(service) as http:
        answer = await http.get("/balances/1029")
    assert (answer.status_code, answer.content) == (200, b'{"points":7}')
    assert answer.headers["content-type"] == "application/json"


async def test_a_row_comes_with_the_position_it_stands_for_across_publishes() -> None:
    service = Service(balances)
    async with client(service) as http:
        for offset_next in (3, 9, 10):
            view = service.put(balances, 1, {"seen": offset_next}, offset_next=offset_next)
            answer = await http.get("/balances/1")
            token = Token.parse(answer.headers["Headrace-Position"])
            assert answer.json() == {"seen": offset_next}
            assert token.located(service.catalog) == view.position


async def test_progress_over_events_that_wrote_nothing_shows_in_the_position() -> None:
    service = Service(balances)
    view = service.put(balances, 1, 5, offset_next=3)
    async with client(service) as http:
        before = await http.get("/balances/1")
        view.advance(service.position(view.partition, 40))
        after = await http.get("/balances/1")
    assert before.headers["etag"] == after.headers["etag"]
    assert Token.parse(after.headers["Headrace-Position"]).located(service.catalog) == view.position


async def test_a_missing_row_is_404_and_says_as_of_when() -> None:
    service = Service(balances)
    view = service.put(balances, 1, 5, offset_next=3)
    service.put(balances, 1, None, offset_next=4)
    async with client(service) as http:
        answer = await http.get("/balances/1")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert Token.parse(answer.headers["Headrace-Position"]).located(service.catalog) == view.position


async def test_head_answers_like_get_without_the_row() -> None:
    service = Service(balances)
    service.put(balances, 1, {"points": 7})
    async with client(service) as http:
        head, get = await http.head("/balances/1"), await http.get("/balances/1")
    assert head.content == b""
    assert head.headers == get.headers


async def test_a_known_row_is_not_sent_again() -> None:
    service = Service(balances)
    service.put(balances, 1, {"points": 7})
    async with client(service) as http:
        tag = (await http.get("/balances/1")).headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            answer = await http.get("/balances/1", headers={"If-None-Match": known})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == tag
            assert "Headrace-Position" in answer.headers
        service.put(balances, 1, {"points": 8})
        answer = await http.get("/balances/1", headers={"If-None-Match": f'"other", {tag}'})
    assert (answer.status_code, answer.json()) == (200, {"points": 8})
    assert answer.headers["etag"] != tag


async def test_a_partition_that_is_elsewhere_is_never_answered_as_empty() -> None:
    service = Service(balances)
    del service.owned[service.partition(balances, 1)]
    async with client(service) as http:
        answer = await http.get("/balances/1")
    assert (answer.status_code, answer.json()["error"]) == (503, "NotOwner")
    assert answer.headers["Retry-After"] == "1"
    assert "Headrace-Position" not in answer.headers


@pytest.mark.parametrize(
    ("state", "error"), [(ViewState.RESTORING, "StillRecovering"), (ViewState.CLOSED, "NotOwner")]
)
async def test_a_partition_that_does_not_serve_is_never_answered_as_empty(
    state: ViewState, error: str
) -> None:
    service = Service(balances)
    service.put(balances, 1, 5).close(state)
    async with client(service) as http:
        answer = await http.get("/balances/1")
    assert (answer.status_code, answer.json()["error"]) == (503, error)
    assert answer.headers["Retry-After"] == "1"


async def test_a_broken_store_is_503_and_keeps_its_internals_to_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(PartitionView):
        def get(self, key: bytes) -> bytes | None:
            raise StoreCorrupt("checksum of /var/secret/000007.sst")

    service = Service(balances)
    for partition in service.owned:
        service.owned[partition] = Broken("main", partition)
    async with client(service) as http:
        answer = await http.get("/balances/1")
    assert answer.status_code == 503
    assert "secret" not in answer.text
    assert "000007.sst" in caplog.text


@pytest.mark.parametrize("key", ["", "x", "01", "+1", "1.0", "%31%20", "-", "-0", "1_0", "٣", "9" * 400])
async def test_a_key_of_another_type_is_400(key: str) -> None:
    async with client(Service(balances)) as http:
        answer = await http.get(f"/balances/{key}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("key", ["%00", "a%00b", "%c0%ae", "%ff", "%ed%a0%80", "%", "%4", "%zz", "a%"])
async def test_a_key_that_is_no_text_is_400(key: str) -> None:
    answer = await ask(Service(names), b"/names/" + key.encode())
    assert answer.status == 400


@pytest.mark.parametrize("key", ["a/b", "/", "../../etc/passwd", "a b", "ü", "a%2Fb", "?x=1", "#", ".", ".."])
async def test_any_text_is_a_key_when_it_is_percent_encoded(key: str) -> None:
    service = Service(names)
    service.put(names, key, {"key": key})
    async with client(service) as http:
        answer = await http.get("/names/" + quote(key, safe="").replace(".", "%2E"))
    assert (answer.status_code, answer.json()) == (200, {"key": key})


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Headrace-Position", "AQ", 400),
        ("Headrace-Consistency", "newest", 400),
        ("Headrace-Consistency", "latest", 200),
        ("Headrace-Consistency", "at-least", 200),
        ("Headrace-Consistency", "eventual", 200),
    ],
)
async def test_a_read_that_asks_for_what_cannot_be_understood_is_400(
    header: str, value: str, status: int
) -> None:
    service = Service(balances)
    service.put(balances, 1, 5)
    async with client(service) as http:
        for path in ("/balances/1", "/balances"):
            assert (await http.get(path, headers={header: value})).status_code == status
