"""The bill of materials: valid by its schema, whole, and with a licence for each part."""

import json
from importlib.resources import files
from typing import Any

import jsonschema_rs
import pytest

from tests.bill_of_materials import SPEC, bill, runtime
from tests.lockfile import LOCK, canonical, pins

SCHEMAS = files("cyclonedx.schema") / "_res"
HOME = "http://cyclonedx.org/schema"
SCHEMA = f"bom-{SPEC}.SNAPSHOT.schema.json"
REFERRED = ("spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return bill()


def test_it_is_valid_by_its_schema(document: dict[str, Any]) -> None:
    assert document["bomFormat"] == "CycloneDX"
    schemas = {name: json.loads((SCHEMAS / name).read_text("utf-8")) for name in (SCHEMA, *REFERRED)}
    registry = jsonschema_rs.Registry([(f"{HOME}/{name}", schemas[name]) for name in REFERRED])
    jsonschema_rs.Draft7Validator(schemas[SCHEMA], registry=registry).validate(document)


def test_it_names_each_package_of_a_worker_with_its_version_and_licence(document: dict[str, Any]) -> None:
    components = {canonical(component["name"]): component for component in document["components"]}
    always, with_extras = runtime()
    assert set(components) == set(with_extras)
    assert (
        {"faust-streaming", "aiokafka", "rocksdict", "uvicorn", "starlette"} <= set(always) < set(with_extras)
    )
    assert {"pytest", "ruff", "schemathesis"}.isdisjoint(components)
    for name, component in components.items():
        assert component["version"], name
        assert component["purl"].startswith("pkg:pypi/"), name
        assert component.get("licenses"), f"{name} names no licence"
        assert component["scope"] == ("required" if name in always else "optional")


def test_it_is_of_the_versions_of_the_lock(document: dict[str, Any]) -> None:
    locked: dict[str, set[str]] = {}
    for pin in pins(LOCK.read_text("utf-8")):
        locked.setdefault(pin.name, set()).add(pin.version)
    for component in document["components"]:
        name = canonical(component["name"])
        assert component["version"] in locked[name], f"{name} is not what the lock says: run make"


def test_nothing_of_this_machine_is_in_it(document: dict[str, Any]) -> None:
    assert "file://" not in json.dumps(document)
