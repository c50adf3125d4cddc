"""Workers that know each other by their certificates: who signed them is who lets them in."""

import asyncio
import hashlib
import ssl
from pathlib import Path

import httpx
import msgspec
import pytest

from headrace.errors import SettingsError
from headrace.http.h11 import bounded_h11
from headrace.http.tls import peer_context, server_context
from headrace.settings import Settings
from tests.http.certificates import Authority, Certificate
from tests.http.pair import Pair, pair

TOKEN = "open sesame"
HERE = "IP:127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the workers' certificates."""
    return Authority(tmp_path_factory.mktemp("authority"), "workers")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Somebody else who signs certificates."""
    return Authority(tmp_path_factory.mktemp("foreign"), "somebody")


def settings_for(own: Certificate, authority: Authority, **more: object) -> Settings:
    files = {"http_tls_cert_file": own.cert_file, "http_tls_key_file": own.key_file}
    return msgspec.convert({**files, "peer_ca_file": authority.ca_file, **more}, Settings)


def browser(authority: Authority, own: Certificate | None = None) -> httpx.AsyncClient:
    """A client that trusts this authority."""
    context = ssl.create_default_context(cafile=authority.ca_file)
    if own is not None:
        context.load_cert_chain(own.cert_file, own.key_file)
    return httpx.AsyncClient(verify=context, trust_env=False)


async def read(http: httpx.AsyncClient, two: Pair, **headers: str) -> httpx.Response:
    """Ask the first worker for a row of the second one."""
    key = two.key_at(two.second)
    two.put(key, 7)
    return await http.get(f"https://{two.first.reached_at}/balances/{key}", headers=headers)


async def test_workers_that_know_each_others_certificates_carry_what_a_client_proves_himself_with(
    authority: Authority,
) -> None:
    token_sum = hashlib.sha256(TOKEN.encode()).hexdigest()
    settings = settings_for(authority.certificate("w", HERE), authority, tokens=(token_sum,))
    async with pair(settings=settings) as two, browser(authority) as http:
        assert (await read(http, two)).status_code == 401
        assert (await read(http, two, Authorization=f"Bearer {TOKEN}")).json() == 7


async def test_one_name_that_all_workers_carry_is_enough(authority: Authority) -> None:
    settings = settings_for(authority.certificate("named", "DNS:workers.loyalty"), authority)
    async with pair(settings=settings) as two:
        assert (await _greeted(two)) == "PeerUnproven"
    settings = msgspec.structs.replace(settings, peer_tls_name="workers.loyalty")
    async with pair(settings=settings) as two:
        assert (await _greeted(two)) == 7


async def test_a_member_whose_certificate_somebody_else_has_signed_gets_nothing(
    authority: Authority, foreign: Authority
) -> None:
    own = settings_for(authority.certificate("w", HERE), authority)
    theirs = settings_for(foreign.certificate("f", HERE), foreign)
    async with pair(settings=own, second_settings=theirs) as two:
        assert (await _greeted(two)) == "PeerUnproven"


async def test_who_cannot_show_a_certificate_is_no_worker(authority: Authority) -> None:
    own = authority.certificate("w", HERE)
    async with pair(settings=settings_for(own, authority)) as two:
        async with browser(authority) as http:
            forged = await read(http, two, **{"Headrace-Hop": "1"})
            assert (forged.status_code, forged.json()["error"]) == (403, "PeerUnproven")
        async with browser(authority, own) as http:
            certified = await read(http, two, **{"Headrace-Hop": "1"})
            assert (certified.status_code, certified.json()["error"]) == (503, "NotOwner")


async def test_a_certificate_of_somebody_else_is_refused_before_anything_is_read(
    authority: Authority, foreign: Authority
) -> None:
    async with pair(settings=settings_for(authority.certificate("w", HERE), authority)) as two:
        async with browser(authority, foreign.certificate("f", HERE)) as http:
            with pytest.raises(httpx.TransportError):
                await read(http, two)


async def test_certificates_count_with_either_parser(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.http.server._protocol", lambda bounds, _: bounded_h11(bounds))
    async with pair(settings=settings_for(authority.certificate("w", HERE), authority)) as two:
        assert (await _greeted(two)) == 7


async def test_who_speaks_plain_http_to_it_learns_nothing(authority: Authority) -> None:
    async with pair(settings=settings_for(authority.certificate("w", HERE), authority)) as two:
        host, port = two.first.server.address
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"HTTP" not in await reader.read()
        writer.close()


def test_files_that_are_no_certificates_are_named(tmp_path: Path, authority: Authority) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    own = authority.certificate("w", HERE)
    wrong = settings_for(Certificate(str(nothing), own.key_file), authority)
    with pytest.raises(SettingsError, match="http_tls_cert_file"):
        server_context(wrong)
    with pytest.raises(SettingsError, match="peer_ca_file"):
        peer_context(msgspec.structs.replace(settings_for(own, authority), peer_ca_file=str(nothing)))
    assert server_context(Settings()) is None
    assert peer_context(Settings()) is None


async def _greeted(two: Pair) -> object:
    """The row of the second worker as the first one reads it for itself, or the error."""
    key = two.key_at(two.second)
    two.put(key, 7)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with httpx.AsyncClient(verify=context, trust_env=False) as http:
        answer = await http.get(f"https://{two.first.reached_at}/balances/{key}")
    found = answer.json()
    return found["error"] if isinstance(found, dict) else found
