"""What we hand to others installs and starts: compose file, image, project metadata, Makefile."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from headrace.configuration import load

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
SERVICES = ("checkout", "promotions", "loyalty")


def composed() -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe").load(COMPOSE.read_text("utf-8"))
    return document


def test_the_compose_file_follows_its_published_schema() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_service_of_the_compose_file_is_a_worker_of_an_app_that_exists() -> None:
    services = composed()["services"]
    assert set(services) == {"kafka", *SERVICES}
    for name in SERVICES:
        assert services[name]["command"] == ["headrace", "-A", f"app.{name}", "worker", "-l", "info"]
        assert services[name]["depends_on"]["kafka"]["condition"] == "service_healthy"
        assert (ROOT / "app" / f"{name}.py").is_file()


def test_the_settings_in_the_compose_file_are_settings_and_keep_files_on_a_volume() -> None:
    document = composed()
    instances = set()
    for name in SERVICES:
        service = document["services"][name]
        environment = {
            variable: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value)
            for variable, value in service["environment"].items()
        }
        loaded = load(command_line={}, environment=environment, app_arguments={}, file=None)
        assert loaded.warnings == ()
        assert loaded.settings.log == "kafka://kafka:9092"
        assert service["volumes"] == [f"{name}:{loaded.settings.data}"]
        assert name in document["volumes"]
        instances.add(loaded.settings.instance)
    assert len(instances) == len(SERVICES)


def test_every_service_says_whether_it_is_healthy_and_is_published_on_loopback_only() -> None:
    for name, service in composed()["services"].items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_the_image_runs_without_root_and_has_all_that_a_service_imports() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if re.match(r"[A-Z]+ ", line)]
    assert ["USER", "headrace"] in instructions
    copied = {rest.split()[0] for word, rest in instructions if word == "COPY"}
    assert {"app", "agents", "tables", "schemas", "headrace"} <= copied
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
    }
    assert {name for name in copied if not name.startswith("-")} <= kept | {"./"}


def test_the_console_script_leads_somewhere_and_types_are_shipped() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, function = project["scripts"]["headrace"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))
    assert (ROOT / "headrace" / "py.typed").is_file()


def test_make_help_names_every_target_with_a_sentence() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("help", "demo", "run", "test", "check", "bench", "control", "docs"):
        assert re.search(rf"^  make {target}\s+\w+", shown, re.MULTILINE), target
