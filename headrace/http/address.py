"""Where the server listens, and whether it may."""

import asyncio
import errno
import ipaddress
import socket

from headrace.errors import SettingsError
from headrace.settings import Settings

_BACKLOG = 2048
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def split_address(text: str, setting: str = "http") -> tuple[str, int]:
    """Host and port of `host:port` or `[ipv6]:port`. Raises: SettingsError, naming the setting."""
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65_535 or not host:
        raise SettingsError(f"{setting} is {text!r}, not host:port")
    if ":" in host and not is_bracketed:
        raise SettingsError(f"{setting} is {text!r}: an IPv6 address stands in brackets, [::1]:6066")
    return (host[1:-1] if is_bracketed else host), int(port)


def advertised_address(settings: Settings, bound: tuple[str, int]) -> str:
    """Where other workers reach a server that is bound to this address. Raises: SettingsError."""
    if settings.advertise:
        split_address(settings.advertise, "advertise")
        return settings.advertise
    host, port = bound
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def listening_socket(settings: Settings) -> socket.socket:
    """A socket bound to the address of the settings; port 0 has become a free one.

    Raises: SettingsError when the address is malformed, taken, not of this machine, or open to
    others while nothing protects it.
    """
    host, port = split_address(settings.http)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise SettingsError(f"the HTTP address {settings.http} does not resolve: {error.strerror}") from error
    # A name such as localhost often stands for both families; IPv4 is what people then type.
    places = sorted({(family, place) for family, _, _, _, place in found}, key=lambda pair: pair[0])
    if not (settings.tokens or settings.insecure):
        _refuse_strangers(settings.http, [str(place[0]) for _, place in places])
    refusal: OSError | None = None
    for family, place in places:
        try:
            return _bound(family, place)
        except OSError as error:
            refusal = error
            if error.errno not in _NOT_HERE:
                break
    raise SettingsError(
        f"the HTTP address {settings.http} cannot be used: {refusal.strerror if refusal else 'unknown'}",
        hint="Stop who holds it, or set HEADRACE_HTTP to another address; port 0 takes a free one.",
    ) from refusal


def _refuse_strangers(http: str, addresses: list[str]) -> None:
    # An IPv6 address may carry its zone behind a percent sign.
    if all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses):
        return
    raise SettingsError(
        f"{http} can be reached from other machines, and no token protects it",
        hint="Set HEADRACE_TOKENS, or say HEADRACE_INSECURE=1 where something else protects it.",
    )


def _bound(
    family: int, place: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
) -> socket.socket:
    # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer of two
    # segments waits 40 ms for the delayed acknowledgement of the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
