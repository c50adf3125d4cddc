"""Where another worker says that it is reached: host and port, and nothing else may stand there."""

import ipaddress
import re
from typing import NamedTuple

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
# What ends in a number is an address in an old spelling; a container's id, of 12 digits, is not.
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]{1,10}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class Place(NamedTuple):
    """Where a worker is reached."""

    host: str
    port: int


def parse_place(text: str) -> Place | None:
    """Host and port of an announced address; None for one that no worker can be reached at.

    A host is a name or an address of one machine. Neither everywhere (0.0.0.0) nor many (multicast)
    is one, and link-local addresses are those of a cloud's own services, never of a worker.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65_535:
        return None
    is_bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if is_bracketed else host)
    except ValueError:
        is_name = _HOST.fullmatch(host) and not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2])
        return Place(host, int(port)) if is_name else None
    if is_bracketed != (address.version == 6):
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    meant = mapped or address
    if meant.is_unspecified or meant.is_multicast or meant.is_link_local:
        return None
    return Place(str(address), int(port))
