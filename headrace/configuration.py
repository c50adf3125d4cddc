"""Settings from where people write them: command line, environment, App(...), headrace.toml."""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from headrace.errors import SettingsError
from headrace.settings import SECRETS, Settings

PREFIX = "HEADRACE_"
FILE_NAME = "headrace.toml"

OTHER_NAMES = frozenset(
    {
        "HEADRACE_KAFKA_LIB",
        "HEADRACE_TEST_BRIDGE_KILLS",
        "HEADRACE_TEST_CONTROL_RUNS",
        "HEADRACE_TEST_DIFF_ROWS",
        "HEADRACE_TEST_MUTATIONS",
        "HEADRACE_TEST_PAIRS",
        "HEADRACE_TEST_SHADOWS",
        "HEADRACE_TEST_TOPOLOGIES",
    }
)
"""Names in the environment that are ours, or our Makefile's and tests', but no settings."""

_HIDDEN = "(hidden)"
_NEAR = 0.7
_KUBERNETES = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$"
)
"""Names that Kubernetes gives every container for each service; never a spelling mistake."""
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_BROKER_DEFAULTED = frozenset({"replication_factor", "min_insync_replicas"})
_MAY_BE_OFF = frozenset(
    {
        "loop_silence_max_s",
        "interpreter_silence_max_s",
        "broker_silence_max_s",
        "membership_silence_max_s",
        "fetch_silence_max_s",
        "handler_time_max_s",
        "watchdog_grace_s",
    }
)
_SPECIAL = _BROKER_DEFAULTED | _MAY_BE_OFF
_SCHEMES = ("embedded://", "kafka://", "simulated://")
_SECRET_CHARACTERS_MIN = 16
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Origin(Enum):
    """Where the value of a setting came from; the first in this order wins."""

    COMMAND_LINE = "command line"
    ENVIRONMENT = "environment"
    APP = "App(...)"
    FILE = "headrace.toml"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings, and how they came about."""

    settings: Settings
    origins: Mapping[str, Origin]
    """Setting name to the origin of its value; every setting is there."""
    warnings: tuple[str, ...]
    """Sentences for people; nothing in them stops a worker."""

    def shown(self) -> Iterator[tuple[str, Any, Origin]]:
        """Name, value and origin of each setting, as declared; a secret that was set is hidden."""
        for name in TYPES:
            value = getattr(self.settings, name)
            is_told = name not in SECRETS or self.origins[name] is Origin.DEFAULT
            yield name, value if is_told else _HIDDEN, self.origins[name]


TYPES: Mapping[str, Any] = get_type_hints(Settings)
"""Setting name to its type, in order of declaration."""


def load(
    *,
    command_line: Mapping[str, str],
    environment: Mapping[str, str],
    app_arguments: Mapping[str, object],
    file: Path | None,
) -> Loaded:
    """The settings of this process.

    Shape: `command_line` and `app_arguments` by setting name, `environment` as the process has it
    (other variables are ignored; an empty value counts as not set), `file` may be missing.
    An argument of `App(...)` that is None counts as not given.
    Raises: SettingsError for a name that is unknown or misspelt, a malformed value, a contradiction.
    """
    warnings: list[str] = []
    written = {
        Origin.FILE: _from_file(file),
        Origin.APP: _from_values(app_arguments, "App(...)"),
        Origin.ENVIRONMENT: _from_environment(environment, warnings),
        Origin.COMMAND_LINE: _from_command_line(command_line),
    }
    values: dict[str, Any] = {}
    origins = dict.fromkeys(TYPES, Origin.DEFAULT)
    for origin, found in written.items():
        values.update(found)
        origins.update(dict.fromkeys(found, origin))
    settings = Settings(**values)
    _check(settings, origins)
    return Loaded(settings=settings, origins=origins, warnings=tuple(warnings))


def meant(name: str) -> str | None:
    """The setting that a misspelt name probably means; None when none is near."""
    near: list[str] = difflib.get_close_matches(name, list(TYPES), n=1, cutoff=_NEAR)
    if near:
        return near[0]
    # Two letters swapped in a short name ("lgo") are too far apart for difflib's ratio.
    return next((known for known in TYPES if sorted(known) == sorted(name)), None)


def _from_command_line(written: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for name, text in written.items():
        if name not in TYPES:
            raise _unknown(name, "the command line")
        found[name] = _parsed(name, text, f"{name} on the command line")
    return found


def _from_environment(environment: Mapping[str, str], warnings: list[str]) -> dict[str, Any]:
    found = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(PREFIX) or variable in OTHER_NAMES:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in TYPES:
            if text.strip():
                found[name] = _parsed(name, text, variable)
        elif not _KUBERNETES.search(variable) and (near := meant(name)):
            raise SettingsError(
                f"{variable} in the environment is not a setting; {PREFIX}{near.upper()} is one",
                hint=f"Write {PREFIX}{near.upper()}, or take {variable} out of the environment.",
            )
        else:
            warnings.append(f"{variable} in the environment is not a setting of headrace; it is ignored.")
    return found


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}", hint="Correct the line it names.") from error
    return _from_values(values, file.name)


def _from_values(values: Mapping[str, object], place: str) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        if name not in TYPES:
            raise _unknown(name, place)
        if value is None:
            continue
        plain = os.fspath(value) if isinstance(value, os.PathLike) else value
        if isinstance(plain, list | tuple) and get_origin(TYPES[name]) is tuple:
            plain = tuple(plain)
        try:
            found[name] = msgspec.convert(plain, TYPES[name])
        except msgspec.ValidationError as error:
            reason = "its type is wrong" if name in SECRETS else str(error)
            raise SettingsError(
                f"{name} in {place} is malformed: {reason}", hint=f"It must be {_expected(name)}."
            ) from error
    return found


def _unknown(name: str, place: str) -> SettingsError:
    near = meant(name)
    suggestion = f"; did you mean {near}?" if near else ""
    return SettingsError(f"{name} in {place} is not a setting of headrace{suggestion}")


def _parsed(name: str, text: str, place: str) -> Any:
    kind = TYPES[name]
    parse = _parse_choice(kind) if get_origin(kind) is Literal else _PARSERS[kind]
    try:
        return parse(text.strip())
    except ValueError as error:
        given = "" if name in SECRETS else f", not {text!r}"
        raise SettingsError(f"{place} must be {_expected(name)}{given}", hint="Correct it.") from error


def _parse_choice(kind: Any) -> Callable[[str], str]:
    by_folded = {choice.casefold(): choice for choice in get_args(kind)}

    def parse(text: str) -> str:
        if text.casefold() not in by_folded:
            raise ValueError(text)
        return str(by_folded[text.casefold()])

    return parse


def _parse_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


def _parse_parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_PARSERS: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: _parse_bool,
    tuple[str, ...]: _parse_parts,
}
_SENTENCES: Mapping[Any, str] = {
    str: "text",
    int: "a whole number such as 10_000",
    float: "a number such as 0.5",
    bool: "true or false (also: yes, no, on, off, 1, 0)",
    tuple[str, ...]: "texts separated by commas",
}


def _expected(name: str) -> str:
    kind = TYPES[name]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(choice or "(empty)" for choice in get_args(kind))
    return _SENTENCES[kind]


def _check(settings: Settings, origins: Mapping[str, Origin]) -> None:
    """Refuse what no single value shows: out of range, of no known form, contradicting another."""

    def refuse(name: str, sentence: str) -> SettingsError:
        return SettingsError(f"{name} ({origins[name].value}) {sentence}")

    if not settings.log.startswith(_SCHEMES):
        raise refuse("log", f"must begin with {', '.join(_SCHEMES)}")
    if settings.log in ("embedded://", "kafka://"):
        raise refuse("log", "names neither a file nor a broker behind its scheme")
    host, colon, port = settings.http.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise refuse("http", "must be host:port, such as 127.0.0.1:6066 or [::1]:6066")
    for name, kind in TYPES.items():
        value = getattr(settings, name)
        is_special = value == (-1 if name in _BROKER_DEFAULTED else 0) and name in _SPECIAL
        # "not value > 0" rather than "value <= 0": NaN is refused too.
        if kind in (int, float) and not is_special and not value > 0:
            raise refuse(name, "must be more than zero")
    if settings.page_rows_default > settings.page_rows_max:
        raise refuse("page_rows_default", "is more than page_rows_max")
    if not all(re.fullmatch(r"[0-9a-f]{64}", token) for token in settings.tokens):
        raise refuse("tokens", "must be SHA-256 sums in hex, never the tokens themselves")
    _check_peers(settings, refuse)
    if bool(settings.kafka_cert_file) != bool(settings.kafka_key_file):
        raise refuse("kafka_cert_file", "and kafka_key_file belong together")
    if settings.kafka_sasl and not (settings.kafka_username and settings.kafka_password):
        raise refuse("kafka_sasl", "needs kafka_username and kafka_password")


def _check_peers(settings: Settings, refuse: Callable[[str, str], SettingsError]) -> None:
    if any(len(secret) < _SECRET_CHARACTERS_MIN for secret in settings.peer_secret):
        raise refuse("peer_secret", f"must have {_SECRET_CHARACTERS_MIN} characters or more")
    if bool(settings.http_tls_cert_file) != bool(settings.http_tls_key_file):
        raise refuse("http_tls_cert_file", "and http_tls_key_file belong together")
    if settings.peer_ca_file and not settings.http_tls_cert_file:
        raise refuse("peer_ca_file", "needs http_tls_cert_file, which is what a worker shows to the others")
    for name in ("peer_request_headers", "peer_answer_headers"):
        if not all(_HEADER_NAME.fullmatch(header) for header in getattr(settings, name)):
            raise refuse(name, "must be names of headers")
