"""An operator that serves some namespaces, as an account with the chart's Roles in them and no more."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import binaries
from modelops.api import names
from modelops.clients import kinds
from modelops.clients.kinds import Resource
from modelops.plan import Manifest
from tests.integration.operating import SERVICE, Pretended, Program, World, begin, our_definitions

CHART = Path(__file__).parents[2] / "charts" / "modelops"
SYSTEM = "modelops-system"
"""The namespace whose accounts the API server of the tests audits."""
RBAC = "rbac.authorization.k8s.io/v1"
WITHOUT_NAMESPACE = {"nodes", "modelnodes", "gatewayclasses", "persistentvolumes"}
POLICIES = {
    f"{verb}admission{what}" for verb in ("validating", "mutating") for what in ("policies", "policybindings")
}
RIGHTS = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
CHILDREN = (("apps/v1", "Deployment"), ("v1", "Service"), ("v1", "PersistentVolumeClaim"))
OTHERS = (*CHILDREN, ("batch/v1", "Job"), ("networking.k8s.io/v1", "NetworkPolicy"))

for kind in RIGHTS:
    kinds.register(Resource(RBAC, kind, f"{kind.lower()}s", not kind.startswith("Cluster")))


@dataclass(frozen=True, slots=True)
class Installed:
    """The chart's account, its rights and its settings; nothing else of the chart."""

    world: World
    account: str
    objects: tuple[Manifest, ...]
    settings: dict[str, Any]
    kubeconfig: Path
    watched: tuple[str, str]
    other: str


def rendered(release: str, *values: str) -> list[Manifest]:
    named = [word for value in values for word in ("--set-json" if "=[" in value else "--set", value)]
    done = subprocess.run(
        [binaries.ensure("helm") / "helm", "template", release, CHART, "--namespace", SYSTEM, *named],
        capture_output=True,
        text=True,
        check=True,
    )
    return [obj for obj in yaml.safe_load_all(done.stdout) if obj]


def rights_of(account: str, objects: list[Manifest]) -> list[Manifest]:
    """Return the account, what it is bound to, and the bindings."""
    bindings = [
        obj
        for obj in objects
        if obj["kind"].endswith("RoleBinding") and account in {who["name"] for who in obj["subjects"]}
    ]
    bound = {(b["roleRef"]["kind"], b["roleRef"]["name"]) for b in bindings}
    roles = [obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) in bound]
    accounts = [o for o in objects if (o["kind"], o["metadata"]["name"]) == ("ServiceAccount", account)]
    return [*accounts, *roles, *bindings]


@pytest.fixture(scope="module")
def world(api: Any) -> Iterator[World]:
    """The API server with our kinds, and a node that has the model."""
    world = World(api.kubeconfig)
    world.define(*our_definitions())
    world.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    with Pretended(world):
        yield world
    world.undefine(*our_definitions())


@pytest.fixture
def install(world: World, api: Any, tmp_path: Path) -> Iterator[Any]:
    """Return a function that gives the rights which the chart renders for *values*."""
    made: list[Manifest] = []

    def run(*values: str) -> Installed:
        mark = uuid.uuid4().hex[:6]
        release, a, b, c = (f"{name}-{mark}" for name in ("modelops", "a", "b", "c"))
        labels = {a: "lab", b: "default", c: "default"}
        for name in (a, b, c):
            meta = {"name": name, "labels": {names.ENVIRONMENT: labels[name]}}
            made.append({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
            world.apply(made[-1])
        url = "prometheus.url=http://127.0.0.1:1"
        objects = rendered(release, url, f'watchNamespaces=["{a}","{b}"]', "rbac.userRoles=false", *values)
        rights = rights_of(release, objects)
        world.apply(*rights)
        made.extend(rights)
        config = next(o for o in objects if (o["kind"], o["metadata"]["name"]) == ("ConfigMap", release))
        settings = yaml.safe_load(config["data"]["config.yaml"]) | {"namespace": SYSTEM, "gate": {}}
        path = tmp_path / "kubeconfig"
        _log_in(api.kubeconfig, release, path)
        return Installed(world, release, tuple(rights), settings, path, (a, b), c)

    yield run
    world.delete(*reversed(made))


def _log_in(admin: Path, account: str, path: Path) -> None:
    """Write a kubeconfig with a token of the account."""
    token = subprocess.run(
        [binaries.ensure("kubernetes") / "kubectl", "create", "token", account, "-n", SYSTEM],
        env={**os.environ, "KUBECONFIG": str(admin)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    config = yaml.safe_load(admin.read_text())
    config["users"] = [{"name": "account", "user": {"token": token}}]
    config["contexts"] = [
        {"name": "it", "context": {"cluster": config["clusters"][0]["name"], "user": "account"}}
    ]
    config["current-context"] = "it"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))


def asked(api: Any, account: str) -> list[dict[str, Any]]:
    """Return what the account asked the server for; empty where the server's audit log is not ours."""
    if api.audit is None:
        return []
    events = [json.loads(line) for line in api.audit.read_text().splitlines()]
    return [e for e in events if e["user"]["username"] == f"system:serviceaccount:{SYSTEM}:{account}"]


def are_made(world: World, namespace: str) -> bool:
    return all(world.list(version, kind, namespace) for version, kind in CHILDREN)


def test_it_works_on_the_watched_namespaces_with_roles_alone_and_touches_no_other(
    api: Any, world: World, install: Any, tmp_path: Path
) -> None:
    found = install()
    for obj in found.objects:
        if obj["kind"] == "ClusterRole":
            assert {r for rule in obj["rules"] for r in rule["resources"]} <= WITHOUT_NAMESPACE | POLICIES
    for namespace in (*found.watched, found.other):
        begin(world, namespace)
    (first, second), other = found.watched, found.other
    with Program(found.kubeconfig, tmp_path, found.settings) as operator:
        operator.wait(lambda: are_made(world, first) and are_made(world, second))
        operator.wait(lambda: world.condition(first, "Ready").get("status") == "True")
        approvals = world.get(names.API_VERSION, "ModelVersion", first, "chat-1")["status"]["approval"]  # type: ignore[index]
        assert approvals["environments"][0]["name"] == "lab", (
            "a Role lets it read the label of its own Namespace"
        )
        operator.wait(operator.is_well)
        assert operator.metric("modelops_api_requests_total", code="403") == 0
    assert "status" not in world.get(names.API_VERSION, SERVICE, other, "chat")  # type: ignore[operator]
    assert [kind for version, kind in OTHERS if _ours(world, version, kind, other)] == []

    events = asked(api, found.account)
    if api.audit is None:
        return
    assert {e["verb"] for e in events} >= {"list", "watch", "patch"}, "the log has what it asked for"
    assert [e for e in events if e["responseStatus"]["code"] == 403] == []
    places = {e["objectRef"].get("namespace", "") for e in events if "objectRef" in e}
    assert places == {"", SYSTEM, first, second}
    everywhere = {
        e["objectRef"]["resource"]
        for e in events
        if e["verb"] in ("list", "watch") and not e["objectRef"].get("namespace")
    }
    assert everywhere == WITHOUT_NAMESPACE


def _ours(world: World, version: str, kind: str, namespace: str) -> list[str]:
    return [
        obj["metadata"]["name"]
        for obj in world.list(version, kind, namespace)
        if (obj["metadata"].get("labels") or {}).get(names.MANAGED_BY) == names.MANAGED_BY_VALUE
    ]


def test_without_any_cluster_role_it_runs_and_says_which_right_a_service_waits_for(
    world: World, install: Any, tmp_path: Path
) -> None:
    found = install(
        "rbac.clusterReader=false", "rbac.volumes=false", "delivery.enabled=false", "nodes.enabled=false"
    )
    assert not [obj for obj in found.objects if obj["kind"].startswith("Cluster")]
    namespace = found.watched[0]
    begin(world, namespace)
    with Program(found.kubeconfig, tmp_path, found.settings) as operator:
        operator.wait(lambda: world.condition(namespace, "Placed").get("reason") == "NodesUnseen")
        placed, admitted = (world.condition(namespace, type_) for type_ in ("Placed", "ModelAdmitted"))
        assert "cannot list resource" in placed["message"]
        assert placed["message"].endswith("the chart's rbac.clusterReader")
        assert admitted["reason"] == "ModelNodesUnseen"
        operator.wait(operator.is_well)
        assert world.list("apps/v1", "Deployment", namespace) == []

        more = [o for o in rights_of(found.account, rendered(found.account, "prometheus.url=http://p:1"))
                if o["metadata"]["name"].endswith("-cluster-reader")]  # fmt: skip
        world.apply(*more)
        try:
            operator.wait(lambda: world.condition(namespace, "Placed").get("status") == "True", 90)
            operator.wait(lambda: world.condition(namespace, "Stalled").get("reason") == "OperatorLacksRight")
            assert "persistentvolumes" in world.condition(namespace, "Stalled")["message"]
            assert operator.is_well()
        finally:
            world.delete(*more)
