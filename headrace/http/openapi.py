"""`/openapi.json`: the reads of this service, and its own endpoints, as OpenAPI 3.1."""

import inspect
import re
import uuid
from importlib.metadata import version
from typing import Any, get_args, get_origin

import msgspec

from headrace.http.source import SAFE_METHODS, ReadSource, ServedTable, UserRoute

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_CONVERTERS = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "uuid": {"type": "string", "format": "uuid"},
}
_BODY_METHODS = frozenset({"post", "put", "patch"})

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "A problem document (RFC 9457).",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string", "description": "The name of headrace's error, when there is one."},
    },
}
_PROBLEMS = {
    "BadRequest": "The key or the query is malformed.",
    "Unauthorized": "A bearer token that is valid here is needed.",
    "NoRow": "No row has this key.",
    "Conflict": "The position is of another cluster, of a recreated topic, or names what is not in the log.",
    "Unavailable": "The partition is being restored, owned by another worker, or does not contain in time "
    "what was asked for; `reached` is then the position that was.",
    "Failed": "Another error; its status says which kind.",
    "Refused": "An error of headrace as a problem document, or what the endpoint says of its own.",
}
_HEADERS: dict[str, Any] = {
    "Position": {
        "description": "What the answer contains: next offsets of the inputs, as an opaque token.",
        "schema": {"type": "string"},
    },
    "Unproven": {
        "description": "What the request's position names and nothing here proves or disproves: "
        "`topic/partition@offset`, and `cut` where there is more.",
        "schema": {"type": "string"},
    },
    "PreferenceApplied": {
        "description": "The wait that was granted, such as `wait=2`.",
        "schema": {"type": "string"},
    },
    "ETag": {"description": "Changes with the row.", "schema": {"type": "string"}},
    "RetryAfter": {"description": "Seconds.", "schema": {"type": "integer"}},
}


_NAMING: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 255},
    "description": "Names the request: for 24 hours a repeat is given the first answer and does nothing.",
}
_ASKING: list[dict[str, Any]] = [
    {
        "name": "Headrace-Position",
        "in": "header",
        "schema": {"type": "string"},
        "description": "From an answer before: this one waits until it contains as much.",
    },
    {
        "name": "Headrace-Consistency",
        "in": "header",
        "schema": {"type": "string", "enum": ["eventual", "at-least", "latest"]},
        "description": "`latest`: wait for all that is in the log now. `eventual`: do not wait.",
    },
    {
        "name": "Prefer",
        "in": "header",
        "schema": {"type": "string"},
        "description": "Bounds the wait: `wait=2`, in seconds.",
    },
]
_ASKED = {
    "Headrace-Unproven": {"$ref": "#/components/headers/Unproven"},
    "Preference-Applied": {"$ref": "#/components/headers/PreferenceApplied"},
}


def describe(source: ReadSource) -> dict[str, Any]:
    """The document; it is the same as long as a worker runs."""
    tables = source.served_tables
    shown = [_schema_type(table.value_type) for table in tables]
    schemas, components = msgspec.json.schema_components(shown, schema_hook=_anything, ref_template=_REF)
    paths: dict[str, Any] = {}
    for table, value in zip(tables, schemas, strict=True):
        paths[f"{table.path}/{{key}}"] = {"get": _point_read(table, value)}
        paths[table.path] = {"get": _scan(table, value)}
    for route in source.user_routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        for method in route.methods:
            paths.setdefault(path, {})[method.lower()] = _endpoint(route, method.lower())
    responses = {name: _problem(name, text) for name, text in _PROBLEMS.items()}
    # An endpoint may refuse in words of its own.
    responses["Refused"]["content"]["*/*"] = {}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": source.app_id, "version": version("headrace")},
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "headers": _HEADERS,
            "responses": responses,
        },
    }
    if source.settings.tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _problem(name: str, text: str) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name="Problem")}
    answer: dict[str, Any] = {
        "description": text,
        "content": {"application/problem+json": {"schema": schema}},
    }
    if name in ("Unavailable", "Refused"):
        answer["headers"] = {
            "Retry-After": {"$ref": "#/components/headers/RetryAfter"},
            "Headrace-Position": {"$ref": "#/components/headers/Position"},
        }
    if name == "NoRow":
        answer["headers"] = {"Headrace-Position": {"$ref": "#/components/headers/Position"}, **_ASKED}
    return answer


def _answers(of_reads: dict[str, Any], *, may_be_absent: bool) -> dict[str, Any]:
    names = {
        "400": "BadRequest",
        "401": "Unauthorized",
        "409": "Conflict",
        "503": "Unavailable",
        "default": "Failed",
    }
    if may_be_absent:
        names["404"] = "NoRow"
    return {
        **of_reads,
        **{status: {"$ref": f"#/components/responses/{name}"} for status, name in names.items()},
    }


def _point_read(table: ServedTable, value: dict[str, Any]) -> dict[str, Any]:
    stream = {
        "type": "string",
        "description": "Events `row` with the row as data, or `deleted`; the event id is the position. "
        "The first is the row as of now, the last is `ended` with a problem document.",
    }
    content = {"application/json": {"schema": value}, "text/event-stream": {"schema": stream}}
    headers = {
        "Headrace-Position": {"$ref": "#/components/headers/Position"},
        "ETag": {"$ref": "#/components/headers/ETag"},
        **_ASKED,
    }
    answers = {
        "200": {"description": "The row as committed.", "headers": headers, "content": content},
        "304": {"description": "The row has this ETag still.", "headers": headers},
    }
    return {
        "operationId": f"read_{table.name}",
        "summary": f"A row of {table.name}, or a stream of it",
        **_about(table),
        "tags": [table.name],
        "parameters": [
            {"name": "key", "in": "path", "required": True, "schema": key_schema(table.key_type)},
            {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},
            *_ASKING,
        ],
        "responses": _answers(answers, may_be_absent=True),
    }


def _scan(table: ServedTable, value: dict[str, Any]) -> dict[str, Any]:
    key = key_schema(table.key_type)
    row = {
        "type": "object",
        "required": ["key", "value"],
        "properties": {"key": _json_key_schema(table.key_type), "value": value},
    }
    page = {
        "type": "object",
        "required": ["rows", "cursor"],
        "properties": {
            "rows": {"type": "array", "items": row},
            "cursor": {
                "type": ["string", "null"],
                "description": "Send it back for the next page; null: the last.",
            },
        },
    }
    names: list[tuple[str, dict[str, Any], str]] = [
        ("start", key, "The first key."),
        ("end", key, "The key behind the last."),
        ("limit", {"type": "integer", "minimum": 1}, "Most rows of the page."),
        ("cursor", {"type": "string"}, "From the page before."),
    ]
    if table.key_type in (str, bytes):
        names.append(("prefix", {"type": "string"}, "What the keys begin with."))
    position = {"Headrace-Position": {"$ref": "#/components/headers/Position"}, **_ASKED}
    content = {"application/json": {"schema": page}}
    return {
        "operationId": f"scan_{table.name}",
        "summary": f"Rows of {table.name} in key order",
        **_about(table),
        "tags": [table.name],
        "parameters": [
            {"name": name, "in": "query", "schema": schema, "description": text}
            for name, schema, text in names
        ]
        + _ASKING,
        "responses": _answers(
            {"200": {"description": "A page of one snapshot.", "headers": position, "content": content}},
            may_be_absent=False,
        ),
    }


def _about(table: ServedTable) -> dict[str, str]:
    return {"description": inspect.cleandoc(table.about)} if table.about else {}


def _endpoint(route: UserRoute, method: str) -> dict[str, Any]:
    text = inspect.getdoc(route.endpoint) or ""
    first, _, rest = text.partition("\n")
    said = {"summary": first} if first else {}
    if rest.strip():
        said["description"] = rest.strip()
    found = _PARAMETER.findall(route.path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _CONVERTERS.get(kind, {"type": "string"})}
        for name, kind in found
    ]
    parameters += _ASKING
    if method.upper() not in SAFE_METHODS:
        parameters.append(_NAMING)
    body: dict[str, Any] = {"requestBody": {"content": {"*/*": {}}}} if method in _BODY_METHODS else {}
    answered = {
        "description": "What the endpoint answers, with the position of what it sent.",
        "headers": {"Headrace-Position": {"$ref": "#/components/headers/Position"}},
    }
    return {
        **said,
        "parameters": parameters,
        **body,
        "responses": {
            "2XX": answered,
            "3XX": answered,
            "default": {"$ref": "#/components/responses/Refused"},
        },
    }


def key_schema(key_type: Any) -> dict[str, Any]:
    """A key as it stands in a URL."""
    if get_origin(key_type) is tuple:
        return {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": _json_key_schema(key_type),
        }
    return _json_key_schema(key_type)


def _json_key_schema(key_type: Any) -> dict[str, Any]:
    """A key as it stands in JSON."""
    if get_origin(key_type) is tuple:
        parts = [_json_key_schema(part) for part in get_args(key_type)]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    if key_type is int:
        return {"type": "integer"}
    if key_type is uuid.UUID:
        return {"type": "string", "format": "uuid"}
    if key_type is bytes:
        return {"type": "string", "contentEncoding": "base64url"}
    return {"type": "string"}


def _anything(_: type) -> dict[str, Any]:
    """The schema of a class that msgspec knows nothing of: such a row may be any JSON."""
    # An empty one would count as none.
    return {"description": "Any JSON."}


def _schema_type(value_type: Any) -> Any:
    """The type that describes the rows; raw JSON may be anything."""
    return Any if value_type is msgspec.Raw else value_type
