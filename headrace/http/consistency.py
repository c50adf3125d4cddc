"""What a request asks of the position of its answer, as its headers say it."""

import re
from collections.abc import Mapping
from contextlib import suppress
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
_SECONDS = re.compile(rb"\d{1,9}(?:\.\d{1,9})?")
_BAD_LEVEL = bad_request("Headrace-Consistency is one of eventual, at-least and latest.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an answer must contain, and how long may be waited for it."""

    token: Token | None = None
    """What it must contain; None: nothing."""
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
        return self.token is not None or self.is_latest

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


def carrying(asked: Asked, send: Send) -> Send:
    """A `send` that puts the position of another worker's answer into the client's cookie, too."""

    async def carry(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            if message["status"] == 409 and asked.is_cookie:
                # It leads nowhere, and a person can do nothing about it.
                message = {**message, "headers": [*message["headers"], _NO_COOKIE]}
            elif POSITION in headers:
                cookie = asked.cookie(Token.parse(headers[POSITION].decode("latin-1")))
                if cookie is not None:
                    message = {**message, "headers": [*message["headers"], cookie]}
        await send(message)

    return carry


def asked_by(noted: Mapping[bytes, bytes], settings: Settings) -> Asked | Problem | None:
    """What these headers ask for, the problem with them, or None: whatever there is."""
    level = noted.get(CONSISTENCY)
    if level not in (None, _EVENTUAL, _AT_LEAST, _LATEST):
        return _BAD_LEVEL
    sets_cookie = settings.http_position_cookie
    if level == _EVENTUAL:
        return Asked(sets_cookie=True) if sets_cookie else None
    try:
        token = Token.parse(noted[POSITION].decode("latin-1")) if POSITION in noted else None
    except MalformedToken as error:
        return problem_of(error)
    is_cookie = token is None and sets_cookie
    if is_cookie:
        token = token_in_cookie(noted.get(COOKIE, b""))
    if token is None and level != _LATEST:
        return Asked(sets_cookie=True) if sets_cookie else None
    preferred_s = _preferred_s(noted.get(PREFER), settings.read_wait_max_s)
    return Asked(
        token=token,
        is_latest=level == _LATEST,
        wait_s=min(settings.read_wait_s, settings.read_wait_max_s) if preferred_s is None else preferred_s,
        preferred_s=preferred_s,
        is_cookie=is_cookie,
        sets_cookie=sets_cookie,
    )


def token_in_cookie(cookies: bytes) -> Token | None:
    """The token that a browser brings back; one that cannot be read is none."""
    for pair in cookies.split(b";"):
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
