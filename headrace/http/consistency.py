"""What a request asks of the position of its answer, as its headers say it."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final

from starlette.types import Message, Send

from headrace.errors import ForeignToken, MalformedToken
from headrace.events.token import TOKEN_BYTES_MAX, Token
from headrace.http.problems import Problem, RawHeader, bad_request, problem_of
from headrace.settings import Settings

POSITION: Final = b"headrace-position"
CONSISTENCY: Final = b"headrace-consistency"
PREFER: Final = b"prefer"
COOKIE: Final = b"cookie"
ASKING = frozenset({POSITION, CONSISTENCY, PREFER})
"""Headers in which a request says what it asks for."""

_COOKIE_NAME = b"headrace-position"
# Browsers keep 4,096 bytes of a cookie, its name and attributes among them.
_COOKIE_TOKEN_BYTES_MAX = TOKEN_BYTES_MAX - 128
_ATTRIBUTES = b"; Path=/; HttpOnly; SameSite=Lax"
_NO_COOKIE: RawHeader = (b"set-cookie", _COOKIE_NAME + b"=; Max-Age=0" + _ATTRIBUTES)
_EVENTUAL, _AT_LEAST, _LATEST = b"eventual", b"at-least", b"latest"
_PREFERENCE = re.compile(rb'(?:"(?:[^"\\]|\\.)*"|[^,"])+')
_COOKIES = re.compile(rb"[;,]")
_SECONDS = re.compile(rb"\d{1,9}(?:\.\d{1,9})?")
_BAD_LEVEL = bad_request("Headrace-Consistency is one of eventual, at-least and latest.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an answer must contain, and how long may be waited for it."""

    token: Token | None = None
    """What the request brings along."""
    is_eventual: bool = False
    """Whether the answer is wanted at once, whatever the token names."""
    is_latest: bool = False
    """Whether it must contain all that is in the log when the request arrives."""
    wait_s: float = 0.0
    preferred_s: float | None = None
    """The wait that is granted to a request which prefers one; None: it does not."""
    is_cookie: bool = False
    """Whether the token came in a cookie: one that leads nowhere is then dropped."""
    sets_cookie: bool = False
    """Whether the answer carries its position in a cookie, too."""

    @property
    def may_wait(self) -> bool:
        """Whether there is anything that could be waited for."""
        return self.is_latest or self.demanded is not None

    @property
    def demanded(self) -> Token | None:
        """What the answer must contain; None: nothing."""
        return None if self.is_eventual else self.token

    def for_token(self, token: Token) -> "Asked":
        """The same level and wait, for another token."""
        return replace(self, token=token, is_cookie=False)

    def without_cookie(self) -> "Asked":
        """The same for a cookie that leads nowhere."""
        return replace(self, token=None, is_cookie=False)

    def cookie(self, token: Token) -> RawHeader | None:
        """The cookie that carries this on, merged with the one that came; None when that says it all."""
        if self.token is not None:
            if self.is_cookie and not token.seen.is_cut and self.token.seen.covers(token.seen):
                return None
            # A topic may have been recreated meanwhile: what the old cookie says of it is void.
            with suppress(ForeignToken):
                token = token.merge(self.token)
        text = token.text(_COOKIE_TOKEN_BYTES_MAX).encode()
        return b"set-cookie", _COOKIE_NAME + b"=" + text + _ATTRIBUTES


asked_in_hand: ContextVar[Asked] = ContextVar("asked_in_hand")
"""What the request asks for that a route answers."""


def carrying(asked: Asked, send: Send, *, is_read: bool) -> Send:
    """A `send` that puts the position of an answer made elsewhere into the client's cookie, too."""

    async def carry(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            if is_read and message["status"] == 409 and asked.is_cookie:
                # It leads nowhere, and a person can do nothing about it.
                message = {**message, "headers": [*message["headers"], _NO_COOKIE]}
            elif POSITION in headers and not headers.get(b"set-cookie", b"").startswith(_COOKIE_NAME):
                cookie = asked.cookie(Token.parse(headers[POSITION].decode("latin-1")))
                if cookie is not None:
                    message = {**message, "headers": [*message["headers"], cookie]}
        await send(message)

    return carry


def asked_by(noted: Mapping[bytes, bytes], settings: Settings) -> Asked | Problem | None:
    """What these headers ask of a read, the problem with them, or None: whatever there is."""
    if not settings.http_position_cookie and ASKING.isdisjoint(noted):
        return None
    asked = brought_by(noted, settings)
    return asked if isinstance(asked, Problem) or asked.may_wait or asked.sets_cookie else None


def asking_headers(headers: Iterable[RawHeader]) -> Mapping[bytes, bytes]:
    """The headers in which a request may say what it asks for; fields of one name as one."""
    noted: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in ASKING or name == COOKIE:
            between = b"; " if name == COOKIE else b", "
            noted[name] = noted[name] + between + value if name in noted else value
    return noted


def brought_by(noted: Mapping[bytes, bytes], settings: Settings) -> Asked | Problem:
    """What a request brings along, and asks for; or the problem with it."""
    level = noted.get(CONSISTENCY)
    if level not in (None, _EVENTUAL, _AT_LEAST, _LATEST):
        return _BAD_LEVEL
    try:
        token = Token.parse(noted[POSITION].decode("latin-1")) if POSITION in noted else None
    except MalformedToken as error:
        return problem_of(error)
    sets_cookie = settings.http_position_cookie
    is_cookie = token is None and sets_cookie
    if is_cookie:
        token = token_in_cookie(noted.get(COOKIE, b""))
    preferred_s = _preferred_s(noted.get(PREFER), settings.read_wait_max_s)
    return Asked(
        token=token,
        is_eventual=level == _EVENTUAL,
        is_latest=level == _LATEST,
        wait_s=min(settings.read_wait_s, settings.read_wait_max_s) if preferred_s is None else preferred_s,
        preferred_s=preferred_s,
        is_cookie=is_cookie,
        sets_cookie=sets_cookie,
    )


def token_in_cookie(cookies: bytes) -> Token | None:
    """The token that a browser brings back; one that cannot be read is none."""
    for pair in _COOKIES.split(cookies):
        name, _, value = pair.strip().partition(b"=")
        if name == _COOKIE_NAME:
            try:
                return Token.parse(value.decode("latin-1"))
            except MalformedToken:
                # A person can do nothing about it: the answer's own cookie takes its place.
                return None
    return None


def _preferred_s(prefer: bytes | None, wait_max_s: float) -> float | None:
    """The granted wait of a Prefer header (RFC 7240); None when it names none that can be understood."""
    for preference in _PREFERENCE.findall(prefer or b""):
        name, _, value = preference.partition(b";")[0].partition(b"=")
        if name.strip().lower() == b"wait":
            seconds = value.strip().strip(b'"')
            return min(float(seconds), wait_max_s) if _SECONDS.fullmatch(seconds) else None
    return None
