"""Requests that two servers could read in two ways, each with a second request hidden in it."""

from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """What a server has to make of it. The hidden request must never be answered."""

    REFUSED = "4xx, or the connection ends"
    ONE = "refused, or answered once"


class Smuggled(NamedTuple):
    """One attempt."""

    name: str
    wire: bytes
    verdict: Verdict


TO = b"/length"
"""The route that takes the bodies."""
HIDDEN = b"/smuggled"
"""The route that must never be reached."""

_LENGTHS = {
    "plus": b"Content-Length: +%d",
    "minus": b"Content-Length: -%d",
    "hex": b"Content-Length: 0x%x",
    "octal": b"Content-Length: 0o%o",
    "underscore": b"Content-Length: 1_%d",
    "space within": b"Content-Length: %d 1",
    "comma": b"Content-Length: %d,",
    "list of others": b"Content-Length: %d, 1",
    "float": b"Content-Length: %d.0",
    "exponent": b"Content-Length: %de0",
    "letters": b"Content-Length: %dbytes",
    "quoted": b'Content-Length: "%d"',
    "empty": b"Content-Length:",
    "huge": b"Content-Length: 99999999999999999999999999%d",
    "wraps 64 bits": b"Content-Length: 18446744073709551616%d",
    "superscript": b"Content-Length: \xc2\xb2%d",
    "NUL": b"Content-Length: %d\x00",
    "vertical tab": b"Content-Length: \x0b%d",
    "form feed": b"Content-Length: %d\x0c",
    "two": b"Content-Length: %d\r\nContent-Length: 1",
    "two, other order": b"Content-Length: 1\r\nContent-Length: %d",
    "two, one empty": b"Content-Length: %d\r\nContent-Length:",
    "two, one with a sign": b"Content-Length: %d\r\nContent-Length: +1",
    "space before the colon": b"Content-Length : %d",
    "tab before the colon": b"Content-Length\t: %d",
    "space before the name": b" Content-Length: %d",
    "no colon": b"Content-Length %d",
    "NUL in the name": b"Content\x00-Length: %d",
    "high byte in the name": b"Content-Length\xa0: %d",
    "carriage return": b"X: 1\rContent-Length: %d",
}
"""Lengths that are none: read as a length, the hidden request would come after the body."""

_CODINGS = {
    "other coding last": b"Transfer-Encoding: chunked, identity",
    "other coding": b"Transfer-Encoding: identity",
    "unknown": b"Transfer-Encoding: xchunked",
    "chunked with more": b"Transfer-Encoding: chunkedx",
    "chunked and a number": b"Transfer-Encoding: chunked1",
    "quoted": b'Transfer-Encoding: "chunked"',
    "parameter": b"Transfer-Encoding: chunked;q=1",
    "twice in one": b"Transfer-Encoding: chunked, chunked",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "twice, other last": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "other first": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "gzip first": b"Transfer-Encoding: gzip, chunked",
    "comma": b"Transfer-Encoding: ,chunked",
    "comma behind": b"Transfer-Encoding: chunked,",
    "empty": b"Transfer-Encoding:",
    "vertical tab": b"Transfer-Encoding: \x0bchunked",
    "NUL": b"Transfer-Encoding: chunked\x00",
    "high byte": b"Transfer-Encoding: \xffchunked",
    "space before the colon": b"Transfer-Encoding : chunked",
    "tab before the colon": b"Transfer-Encoding\t: chunked",
    "space before the name": b" Transfer-Encoding: chunked",
    "NUL in the name": b"Transfer\x00-Encoding: chunked",
    "carriage return": b"X: 1\rTransfer-Encoding: chunked",
    "underscore": b"Transfer_Encoding: chunked",
    "case": b"tRANSFER-eNCODING: cHUNKED",
    "tab": b"Transfer-Encoding:\tchunked",
    "no space": b"Transfer-Encoding:chunked",
    "spaces": b"Transfer-Encoding:  chunked  ",
    "plain": b"Transfer-Encoding: chunked",
}
"""Ways to say `chunked`, more or less. Beside a Content-Length each of them is refused or is none."""

_CHUNKS = {
    "size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "size below zero": b"-5\r\nhello\r\n0\r\n\r\n",
    "size with a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size with a space in front": b" 5\r\nhello\r\n0\r\n\r\n",
    "size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "size of none": b"\r\nhello\r\n0\r\n\r\n",
    "size that is no number": b"z\r\nhello\r\n0\r\n\r\n",
    "size beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size of 200 digits": b"1" * 200 + b"5\r\nhello\r\n0\r\n\r\n",
    "size that ends in a line feed": b"5\nhello\r\n0\r\n\r\n",
    "size that ends in a carriage return": b"5\rhello\r\n0\r\n\r\n",
    "size with a NUL": b"5\x00\r\nhello\r\n0\r\n\r\n",
    "data that is longer": b"5\r\nhello!\r\n0\r\n\r\n",
    "data that is shorter": b"5\r\nhell\r\n0\r\n\r\n",
    "data that ends in a line feed": b"5\r\nhello\n0\r\n\r\n",
    "data that ends in two other bytes": b"5\r\nhelloXX0\r\n\r\n",
    "data that ends in nothing": b"5\r\nhello0\r\n\r\n",
    "extension with a line feed": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "extension with a carriage return": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "extension with a NUL": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "end with a line feed": b"5\r\nhello\r\n0\n\r\n",
    "end with two line feeds": b"5\r\nhello\r\n0\n\n",
    "trailer without a colon": b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    "trailer with a NUL": b"5\r\nhello\r\n0\r\nX: \x00\r\n\r\n",
}
"""Bodies in broken chunks, with the hidden request behind them."""

ANSWERED_BY_H11 = frozenset({"chunk: extension with a carriage return", "chunk: extension with a NUL"})
"""h11 takes any byte but a line feed in an extension, and reads on behind it. Nothing else is taken there."""

_LINES = {
    "no version": b"POST /length\r\n",
    "version 1.2.3": b"POST /length HTTP/1.2.3\r\n",
    "version in small letters": b"POST /length http/1.1\r\n",
    "version 9": b"POST /length HTTP/9.9\r\n",
    "version with a sign": b"POST /length HTTP/+1.1\r\n",
    "a tab": b"POST\t/length HTTP/1.1\r\n",
    "a space in the target": b"POST /length HTTP/1.1 HTTP/1.1\r\n",
    "a NUL in the target": b"POST /len\x00gth HTTP/1.1\r\n",
    "a carriage return in the target": b"POST /len\rgth HTTP/1.1\r\n",
    "a NUL in the method": b"PO\x00ST /length HTTP/1.1\r\n",
    "a colon in the method": b"PO:ST /length HTTP/1.1\r\n",
    "a space in front": b" POST /length HTTP/1.1\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03POST /length HTTP/1.1\r\n",
}
"""Request lines that are none."""

_HEADS = {
    "two hosts": b"Host: x\r\nHost: y\r\n",
    "two equal hosts": b"Host: x\r\nHost: x\r\n",
    "no host": b"",
    "a name with a space": b"Host: x\r\nX Y: 1\r\n",
    "a name with brackets": b"Host: x\r\nX[]: 1\r\n",
    "no name": b"Host: x\r\n: 1\r\n",
    "a NUL in a value": b"Host: x\r\nX: a\x00b\r\n",
    "a carriage return in a value": b"Host: x\r\nX: a\rb\r\n",
    "a line without a colon": b"Host: x\r\nnothing\r\n",
    "a first line that is folded": b" X: 1\r\nHost: x\r\n",
}
"""Fields that no request may have."""

_LENIENT = {
    "folded length": b"Content-Length:\r\n %d",
    "folded with a tab": b"Content-Length:\r\n\t%d",
    "folded field behind": b"X: 1\r\n folded\r\nContent-Length: %d",
    "line feeds": b"X: 1\nContent-Length: %d\nY: 1",
    "list of the same": b"Content-Length: %d, %d",
    "two of the same": b"Content-Length: %d\r\nContent-Length: %d",
    "zeros": b"Content-Length: 000000%d",
    "spaces around": b"Content-Length:   %d   ",
    "tabs around": b"Content-Length:\t%d\t",
    "case": b"cONTENT-lENGTH: %d",
}
"""What RFC 9112 lets a server read in the one way it can be meant; the hidden request is in the body."""

_TARGETS = {
    "absolute": b"http://evil/length",
    "absolute with another port": b"http://evil:99/length",
    "absolute with credentials": b"http://a:b@evil/length",
    "absolute https": b"https://evil/length",
    "absolute without a path": b"http://evil",
    "authority": b"evil:80",
    "star": b"*",
    "two slashes": b"//evil/length",
    "a scheme": b"file:///etc/passwd",
    "a backslash": b"\\length",
    "dots": b"/../length",
    "a fragment": b"/length#a",
    "an escaped line end": b"/length%0d%0aGET%20/smuggled%20HTTP/1.1",
    "an escaped NUL": b"/length%00",
    "high bytes": b"/l\xc3\xa4nge",
}
"""Targets of other forms."""


def hidden(number: int) -> bytes:
    """The hidden request."""
    return b"GET %b/%d HTTP/1.1\r\nHost: x\r\n\r\n" % (HIDDEN, number)


def corpus() -> list[Smuggled]:
    """Every attempt, each with a hidden request of its own number."""
    found: list[Smuggled] = []

    def add(name: str, wire: bytes, verdict: Verdict = Verdict.REFUSED) -> None:
        found.append(Smuggled(name, wire, verdict))

    def inside() -> bytes:
        return hidden(len(found))

    def post(fields: bytes, body: bytes) -> bytes:
        return b"POST %b HTTP/1.1\r\nHost: x\r\n" % TO + fields + b"\r\n\r\n" + body

    for name, field in _LENGTHS.items():
        number = field.count(b"%d") + field.count(b"%x") + field.count(b"%o")
        add(f"length: {name}", post(field % ((5,) * number), b"hello" + inside()))
    for name, field in _CODINGS.items():
        # By the chunks the body ends in front of the hidden request, by the length behind it.
        body = b"0\r\n\r\n" + inside()
        is_none = name == "underscore"
        verdict = Verdict.ONE if is_none else Verdict.REFUSED
        add(f"both: {name}", post(field + b"\r\nContent-Length: %d" % len(body), body), verdict)
        add(f"both, length first: {name}", post(b"Content-Length: %d\r\n" % len(body) + field, body), verdict)
        # By the length the body ends in front of the hidden request, by the chunks behind it.
        chunks = b"%x\r\n" % len(inside()) + inside() + b"\r\n0\r\n\r\n"
        size = chunks.index(b"GET")
        if not is_none:
            add(f"both, in a chunk: {name}", post(field + b"\r\nContent-Length: %d" % size, chunks))
    for name, chunks in _CHUNKS.items():
        add(f"chunk: {name}", post(b"Transfer-Encoding: chunked", chunks + inside()))
    for name, line in _LINES.items():
        add(f"line: {name}", line + b"Host: x\r\nContent-Length: 5\r\n\r\nhello" + inside())
    for name, fields in _HEADS.items():
        head = b"POST %b HTTP/1.1\r\n" % TO + fields + b"Content-Length: 5\r\n\r\nhello"
        add(f"head: {name}", head + inside())
    for name, field in _LENIENT.items():
        size = len(inside())
        add(f"lenient: {name}", post(field % ((size,) * field.count(b"%d")), inside()), Verdict.ONE)
    for name, target in _TARGETS.items():
        head = b"POST " + target + b" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(inside())
        add(f"target: {name}", head + inside(), Verdict.ONE)
    found += others(len(found))
    return found


def others(number: int) -> list[Smuggled]:
    """What is meant in one way only, and still misread now and then."""

    def post(version: bytes, fields: bytes, body: bytes) -> bytes:
        return b"POST %b HTTP/%b\r\nHost: x\r\n%b\r\n\r\n%b" % (TO, version, fields, body)

    inside, chunked = hidden(number), b"Transfer-Encoding: chunked"
    length = b"Content-Length: %d" % len(inside)
    wires = {
        "extension": post(b"1.1", chunked, b"5;a=b\r\nhello\r\n0\r\n\r\n"),
        "extension in quotes": post(b"1.1", chunked, b'5;a="b;c"\r\nhello\r\n0\r\n\r\n'),
        "upgrade": post(b"1.1", b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + length, inside),
        "expectation": post(b"1.1", b"Expect: 100-continue\r\n" + length, inside),
        "HTTP/1.0 in chunks": post(b"1.0", chunked, b"0\r\n\r\n" + inside),
    }
    return [Smuggled(name, wire, Verdict.ONE) for name, wire in wires.items()]
