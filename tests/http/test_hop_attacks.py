"""What strangers try at the hop: as clients, as members of the group, and as whoever answers there."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headrace.flow.members import Peer
from headrace.http.peers.connection import Connection
from headrace.http.peers.proof import Proofs, name_of
from headrace.settings import Settings
from tests.http.pair import BALANCES, NAMES, PATIENCE_S, Member, Pair, pair
from tests.http.stranger import GREETED, Stranger, plain, stranger

SECRET = "a secret of all the workers"
TOKEN = "open sesame"
TOKEN_SUM = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb"
PROVEN = Settings(peer_secret=(SECRET,))


@asynccontextmanager
async def beside(it: Stranger, settings: Settings | None = None) -> AsyncIterator[tuple[Pair, int]]:
    """A worker that was told that a stranger's address is that of `w2`, and a key that `w2` owns."""
    async with pair(settings=settings) as two:
        two.first.peers = {number: Peer("w2", it.address, False) for number in (1, 3)}
        yield two, two.key_at(two.second)


async def raw(member: Member, request: bytes) -> bytes:
    """What the worker answers to these bytes before it closes the connection."""
    host, port = member.server.address
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()
    return answer


# --- clients that pretend to be workers


async def test_with_a_secret_a_client_that_says_it_is_a_worker_is_refused() -> None:
    async with pair(settings=PROVEN) as two:
        key = two.key_at(two.first)
        two.put(key, 1)
        for value in (
            "1",
            "",
            "1 x 0 -",
            "1 " + "x" * 2_000 + " 0 -",
            f"1 {name_of('loyalty', 'w1').decode()} 0 -",
        ):
            answer = await two.get(two.first, f"/balances/{key}", headers={"Headrace-Hop": value})
            assert (answer.status_code, answer.json()["error"]) == (403, "PeerUnproven")


async def test_a_proof_is_good_for_one_worker_one_request_and_a_short_time() -> None:
    to, now_ms = name_of("loyalty", "w1"), int(time.time() * 1000)
    proofs = Proofs([SECRET])
    async with pair(settings=PROVEN) as two:
        key = two.key_at(two.first)
        target = f"/balances/{key}".encode()
        two.put(key, 1)
        good = proofs.hop(to, now_ms, "GET", target)
        forged = [
            (403, proofs.hop(to, now_ms, "POST", target)),
            (403, proofs.hop(to, now_ms, "GET", target + b"0")),
            (403, proofs.hop(to, now_ms - 31_000, "GET", target)),
            (403, proofs.hop(to, now_ms + 31_000, "GET", target)),
            (403, Proofs(["another secret of somebody"]).hop(to, now_ms, "GET", target)),
            (403, good + b", " + good),
            (421, proofs.hop(name_of("loyalty", "w2"), now_ms, "GET", target)),
            (421, proofs.hop(name_of("checkout", "w1"), now_ms, "GET", target)),
            (200, good),
        ]
        for status, hop in forged:
            answer = await two.get(two.first, target.decode(), headers={"Headrace-Hop": hop.decode()})
            assert answer.status_code == status


async def test_without_a_secret_the_header_of_a_hop_only_keeps_a_request_from_being_forwarded() -> None:
    async with pair() as two:
        key = two.key_at(two.second)
        two.put(key, 1)
        answer = await two.get(two.first, f"/balances/{key}", headers={"Headrace-Hop": "1"})
        assert (answer.status_code, answer.json()["error"]) == (503, "NotOwner")
        assert answer.headers["retry-after"] == "1"
        assert (await two.get(two.second, f"/balances/{key}", headers={"Headrace-Hop": "1"})).json() == 1


async def test_two_workers_that_take_each_other_for_the_owner_ask_once() -> None:
    async with pair() as two:
        key = two.key_at(two.second)
        partition = two.second.partition(BALANCES, key)
        del two.second.owned[partition]
        two.second.knows(two.first, partition)
        async with asyncio.timeout(PATIENCE_S):
            answer = await two.get(two.first, f"/balances/{key}")
        assert (answer.status_code, answer.json()["error"]) == (503, "NotOwner")
        assert answer.headers["retry-after"] == "1"


async def test_a_worker_tells_strangers_neither_its_name_nor_a_proof() -> None:
    async with pair(settings=PROVEN) as two:
        answer = await two.get(two.first, "/.headrace/peer?once=1")
        assert (answer.status_code, "headrace-proof" in answer.headers) == (403, False)
    async with pair() as two:
        answer = await two.get(two.first, "/.headrace/peer?once=1")
        assert (answer.status_code, "w1" in answer.text) == (404, False)


# --- members that announce what is not theirs


NO_ADDRESSES = [
    "0.0.0.0:80", "[::]:80", "169.254.169.254:80", "[fe80::1]:80", "224.0.0.1:80",
    "[::ffff:169.254.169.254]:80", "127.1:80", "2130706433:80", "0x7f000001:80",
    "user@host:80", "http://host:80", "host:80/path", "host:80?", "host", "host:", ":80", "host:0",
    "host:65536", "host:+80", "host:\u0668\u0660", "ho st:80", "host\r\nX: 1:80", "-a:80",
    "::1:80", "[::1]80", "[127.0.0.1]:80", "a" * 64 + ":80", "",
]  # fmt: skip


async def test_an_address_that_can_be_no_workers_is_never_used() -> None:
    dialled: list[object] = []

    async def dial(place: object) -> Connection:
        dialled.append(place)
        raise OSError("nobody is there")

    async with pair() as two:
        application = two.first.server._application
        assert application is not None
        application.hop._lines._dial = dial
        key = two.key_at(two.second)
        for address in NO_ADDRESSES:
            two.first.peers = {number: Peer("w2", address, False) for number in (1, 3)}
            answer = await two.get(two.first, f"/balances/{key}")
            assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnreachable"), address
            assert dialled == [], address
        two.first.peers = {number: Peer("w2", "worker-2.loyalty:6066", False) for number in (1, 3)}
        await two.get(two.first, f"/balances/{key}")
        assert dialled == [("worker-2.loyalty", 6066)]


async def test_a_member_at_a_foreign_address_gets_neither_credentials_nor_requests() -> None:
    settings = Settings(tokens=(TOKEN_SUM,), peer_secret=(SECRET,))
    async with stranger(GREETED, plain(b"1")) as it, beside(it, settings) as (two, key):
        headers = {"Authorization": f"Bearer {TOKEN}", "Cookie": "session=1"}
        answer = await two.get(two.first, f"/balances/{key}", headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnproven")
        assert it.requests == []
        assert set(it.headers()) == {"host", "headrace-hop"}


async def test_with_tokens_and_nothing_to_prove_workers_by_nobody_is_asked_at_all() -> None:
    async with stranger() as it, beside(it, Settings(tokens=(TOKEN_SUM,))) as (two, key):
        answer = await two.get(two.first, f"/balances/{key}", headers={"Authorization": f"Bearer {TOKEN}"})
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnproven")
        assert "HEADRACE_PEER_SECRET" in answer.json()["detail"]
        assert it.connections == 0


async def test_who_passes_the_greeting_on_to_the_true_worker_gets_no_proof_for_his_own_address() -> None:
    async with pair(settings=PROVEN) as two:
        key = two.key_at(two.second)
        two.put(key, 1)
        passed_on: list[bytes] = []

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            host, port = two.second.server.address
            theirs, ours = await asyncio.open_connection(host, port)
            passed_on.append(await reader.readuntil(b"\r\n\r\n"))
            ours.write(passed_on[0])
            writer.write(await theirs.readuntil(b"\r\n\r\n"))
            passed_on.append(await reader.read())
            ours.close()
            writer.close()

        between = await asyncio.start_server(relay, "127.0.0.1", 0)
        host, port = between.sockets[0].getsockname()
        two.first.peers = {number: Peer("w2", f"{host}:{port}", False) for number in (1, 3)}
        answer = await two.get(two.first, f"/balances/{key}")
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnproven")
        assert passed_on[1:] in ([], [b""])
        between.close()


async def test_another_worker_at_the_address_of_the_owner_is_noticed() -> None:
    async with pair() as two:
        key = two.key_at(two.second)
        two.second.instance = "w3"
        answer = await two.get(two.first, f"/balances/{key}")
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnreachable")


async def test_the_right_secret_opens_every_worker_and_a_new_one_can_be_brought_in_beside_it() -> None:
    new = Settings(peer_secret=("a secret that is the new one", SECRET))
    old = Settings(peer_secret=(SECRET, "a secret that is the new one"))
    async with pair(settings=new, second_settings=old) as two:
        for asked, owner in ((two.first, two.second), (two.second, two.first)):
            key = two.key_at(owner)
            two.put(key, 7)
            assert (await two.get(asked, f"/balances/{key}")).json() == 7


async def test_workers_with_different_secrets_do_not_talk() -> None:
    other = Settings(peer_secret=("a secret that nobody else has",))
    async with pair(settings=PROVEN, second_settings=other) as two:
        answer = await two.get(two.first, f"/balances/{two.key_at(two.second)}")
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnproven")


async def test_the_owner_lets_nobody_in_whom_the_other_worker_should_not_have() -> None:
    open_door = Settings(peer_secret=(SECRET,))
    closed_door = Settings(peer_secret=(SECRET,), tokens=(TOKEN_SUM,))
    async with pair(settings=open_door, second_settings=closed_door) as two:
        key = two.key_at(two.second)
        two.put(key, 7)
        assert (await two.get(two.first, f"/balances/{key}")).status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert (await two.get(two.first, f"/balances/{key}", headers=headers)).json() == 7


# --- what is passed on


async def test_of_a_request_only_what_is_on_the_list_is_passed_on() -> None:
    async with stranger(GREETED, plain(b"1")) as it, beside(it) as (two, key):
        answer = await raw(
            two.first,
            b"GET /balances/%d?start=1 HTTP/1.1\r\nHost: client\r\nAccept: application/json\r\n"
            b"If-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\nPrefer: wait=1\r\n"
            b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
            b"Authorization: Bearer mine\r\nCookie: a=b\r\nX-Forwarded-For: 10.0.0.1\r\n"
            b"X-Forwarded-Host: evil\r\n"
            b"Forwarded: for=10.0.0.1\r\nVia: 1.1 evil\r\nTE: trailers\r\nUpgrade: websocket\r\nExpect: x\r\n"
            b"Keep-Alive: timeout=9\r\nProxy-Authorization: Basic x\r\nRange: bytes=0-1\r\nUser-Agent: me\r\n"
            b"Connection: close, Prefer\r\n\r\n" % key,
        )  # fmt: skip
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert it.heads[-1].startswith(b"GET /balances/%d HTTP/1.1\r\n" % key)
        found = it.headers()
        assert found.pop("headrace-hop").startswith("1 ")
        assert found == {
            "host": it.address,
            "accept": "application/json",
            "if-none-match": '"a", "b"',
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }


@pytest.mark.parametrize(
    "head",
    [
        b"GET /balances/%d HTTP/1.1\r\nHost: a\r\nPrefer: a\rX: 1\r\n",
        b"GET /balances/%d HTTP/1.1\r\nHost: a\r\nPrefer: a\0b\r\n",
        b"GET /balances/%d HTTP/1.1\r\nHost: a\r\nPrefer : a\r\n",
        b"GET /balances/%d HTTP/1.1\r\nHost: evil\r\nHost: twice\r\n",
        b"GET /balances/%d\tx HTTP/1.1\r\nHost: a\r\n",
        b"GET /balances/%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"GET /balances/%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
        b"GET /balances/%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n",
    ],
)
async def test_what_would_be_two_requests_to_somebody_is_not_passed_on(head: bytes) -> None:
    async with stranger(GREETED, plain(b"1")) as it, beside(it) as (two, key):
        answer = await raw(
            two.first, head % key + b"Connection: close\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n"
        )
        assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 404", b"")
        assert it.requests == []


@pytest.mark.parametrize(
    ("segment", "target"),
    [
        (b"..%2f..%2fmetrics", b"/names/..%2F..%2Fmetrics"),
        (b"%2e%2e", b"/names/.."),
        (b"..", b"/names/.."),
        (b"a%0d%0aX:%201", b"/names/a%0D%0AX%3A%201"),
        (b"a%20b%3fc%23d", b"/names/a%20b%3Fc%23d"),
        (b"@evil:80;x=1", b"/names/%40evil%3A80%3Bx%3D1"),
    ],
)
async def test_the_path_is_written_anew_of_the_table_and_the_key(segment: bytes, target: bytes) -> None:
    async with stranger(GREETED, plain(b"1")) as it, beside(it) as (two, _):
        two.first.owned.clear()
        two.first.peers = {number: Peer("w2", it.address, False) for number in range(4)}
        for line in (b"GET /names/%b HTTP/1.1", b"GET http://evil:99/names/%b HTTP/1.1"):
            await raw(two.first, line % segment + b"\r\nHost: evil\r\nConnection: close\r\n\r\n")
            assert it.requests.pop().startswith(
                b"GET " + target + b" HTTP/1.1\r\nhost: " + it.address.encode()
            )
    assert NAMES.path == "/names"


async def test_of_an_answer_only_what_is_on_the_list_comes_back() -> None:
    said = plain(
        b"1",
        b"Content-Type: application/json", b'ETag: "1"', b"Set-Cookie: session=stolen", b"Location: http://evil",
        b"Server: me", b"X-Powered-By: me", b"Access-Control-Allow-Origin: *", b"Keep-Alive: timeout=1",
        b"Content-Encoding: gzip", b"Link: <a>", b"Refresh: 0",
    )  # fmt: skip
    async with stranger(GREETED, said) as it, beside(it) as (two, key):
        answer = await two.get(two.first, f"/balances/{key}")
        assert answer.status_code == 200
        assert set(answer.headers) == {"content-type", "etag", "content-length", "date"}


# --- answers that are none


NO_ANSWERS = [
    plain(b"", b"location: http://evil", status=b"302 Found"),
    plain(b"", status=b"101 Switching"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + plain(b"1"),
    b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n1",
    b"HTTP/1.1 200 OK\r\n\r\n1",
    b"HTTP/1.1 200 OK\ncontent-length: 1\n\n1" + b" " * 40_000,
    plain(b"1", b"content-length: 1"),
    plain(b"1", b"transfer-encoding: chunked"),
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x=1\r\n1\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n12\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\nx: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n1",
    b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999\r\n\r\n1",
    plain(b"1", b"a : b"),
    plain(b"1", b" folded: b"),
    plain(b"1", b"a: b\rc"),
    plain(b"1") + b"more",
    plain(b"1") + plain(b"2"),
    plain(b"1" * 101),
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n65\r\n" + b"1" * 101 + b"\r\n0\r\n\r\n",
    b"x" * 40_000,
]


async def test_what_is_no_answer_is_503_and_its_connection_is_not_used_again() -> None:
    async with stranger() as it, beside(it, Settings(peer_answer_bytes_max=100)) as (two, key):
        for said in NO_ANSWERS:
            it.says, it.connections = [GREETED, said], 0
            answer = await two.get(two.first, f"/balances/{key}")
            assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnreachable"), said
            assert answer.headers["retry-after"] == "1"
            it.says = [GREETED, plain(b"2", b"connection: close")]
            assert (await two.get(two.first, f"/balances/{key}")).json() == 2, said
            assert it.connections == 2, said


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\n", plain(b"12")[:-1]])
async def test_a_worker_that_does_not_go_on_is_waited_for_so_long_and_no_longer(said: bytes) -> None:
    async with stranger(GREETED, said) as it, beside(it, Settings(peer_timeout_s=0.1)) as (two, key):
        answer = await two.get(two.first, f"/balances/{key}")
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnreachable")


async def test_a_place_at_which_nobody_listens_is_503_that_says_so() -> None:
    async with pair() as two:
        key = two.key_at(two.second)
        two.first.peers = {number: Peer("w2", "127.0.0.1:1", False) for number in (1, 3)}
        answer = await two.get(two.first, f"/balances/{key}")
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnreachable")
        assert answer.headers["retry-after"] == "1"


async def test_a_connection_that_ends_while_it_is_idle_costs_a_read_nothing() -> None:
    async with stranger(GREETED, plain(b"1"), b"", GREETED, plain(b"2")) as it, beside(it) as (two, key):
        assert (await two.get(two.first, f"/balances/{key}")).json() == 1
        # The next request is read, and the connection closed without an answer.
        assert (await two.get(two.first, f"/balances/{key}")).json() == 2
        assert it.connections == 2


async def test_a_connection_that_ends_twice_in_a_row_is_not_tried_a_third_time() -> None:
    async with stranger(GREETED, b"", GREETED, b"", GREETED, plain(b"2")) as it, beside(it) as (two, key):
        answer = await two.get(two.first, f"/balances/{key}")
        assert (answer.status_code, answer.json()["error"]) == (503, "PeerUnreachable")
        assert it.connections == 2
