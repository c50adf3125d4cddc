"""The manifests in docs/howto/kubernetes: what Kubernetes takes, and what a worker needs."""

from pathlib import Path
from typing import Any

import kubernetes_validate
from ruamel.yaml import YAML

from headrace.configuration import load

ROOT = Path(__file__).parents[1]
MANIFESTS = ROOT / "docs" / "howto" / "kubernetes"
VERSIONS = ("1.31", kubernetes_validate.latest_version())


def documents() -> list[dict[str, Any]]:
    files = sorted(MANIFESTS.glob("*.yaml"))
    assert files
    return [document for file in files for document in YAML(typ="safe").load_all(file.read_text("utf-8"))]


def named(kind: str, name: str = "loyalty") -> dict[str, Any]:
    return next(d for d in documents() if (d["kind"], d["metadata"]["name"]) == (kind, name))


def worker() -> dict[str, Any]:
    container: dict[str, Any] = named("StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    return container


def test_every_manifest_follows_the_schema_of_old_and_new_clusters() -> None:
    for document in documents():
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_variables_are_settings_that_a_worker_accepts() -> None:
    environment = {**named("ConfigMap")["data"], **named("Secret")["stringData"]}
    environment |= {variable["name"]: variable.get("value", "loyalty-0") for variable in worker()["env"]}
    environment["HEADRACE_ADVERTISE"] = environment["HEADRACE_ADVERTISE"].replace(
        "$(HEADRACE_INSTANCE)", environment["HEADRACE_INSTANCE"]
    )
    loaded = load(command_line={}, environment=environment, app_arguments={}, file=None)
    assert loaded.warnings == ()
    assert loaded.settings.instance == "loyalty-0"
    assert loaded.settings.advertise == "loyalty-0.loyalty-workers:6066"
    assert loaded.settings.data in [mount["mountPath"] for mount in worker()["volumeMounts"]]
    grace_s = named("StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > 1.1 * loaded.settings.stop_timeout_s
    assert not loaded.settings.insecure
    assert loaded.settings.tokens


def test_probes_ask_the_paths_that_are_open_on_the_port_that_is_served() -> None:
    ports = {port["name"]: port["containerPort"] for port in worker()["ports"]}
    assert f":{ports['http']}" in named("ConfigMap")["data"]["HEADRACE_HTTP"]
    paths = {kind: worker()[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "startup", "readiness")}
    assert {kind: probe["path"] for kind, probe in paths.items()} == {
        "liveness": "/livez", "startup": "/livez", "readiness": "/readyz",
    }  # fmt: skip
    assert {probe["port"] for probe in paths.values()} == {"http"}


def test_everything_speaks_of_the_same_pods_and_of_names_that_exist() -> None:
    stateful = named("StatefulSet")["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    selectors = [
        stateful["selector"]["matchLabels"],
        named("Service")["spec"]["selector"],
        named("Service", stateful["serviceName"])["spec"]["selector"],
        named("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        named("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    claims = [claim["metadata"]["name"] for claim in stateful["volumeClaimTemplates"]]
    volumes = [volume["name"] for volume in stateful["template"]["spec"]["volumes"]]
    assert {mount["name"] for mount in worker()["volumeMounts"]} == {*claims, *volumes}
    assert worker()["args"][:3] == ["headrace", "-A", "app.loyalty"]
