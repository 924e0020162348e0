"""The approval gate on a real API server: its people, what they ask, and what there is to ask about."""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from e2e.cluster import binaries
from e2e.cluster.existing import impersonating

ROOT = Path(__file__).parents[2]
OPERATOR_NAMESPACE = "modelops-system"
CLUSTER_ADMIN = "admin"
AUTHOR = "author"
"""Holds `*` on every kind of modelops.dev, in every namespace: whatever she is denied, the gate denies."""
APPROVER = "approver"
"""May approve and revoke the model fraud in the team's namespace, and nothing else."""
CLERK = "clerk"
"""May approve fraud and create approvals, but neither revoke nor patch."""
BOTH = "both"
"""Author and approver of fraud at once."""
OFFICER = "officer"
"""Bound to the chart's role for approvers."""
GOVERNOR = "governor"
"""Author who may change governance and purge records."""
GITOPS = "system:serviceaccount:argocd:argocd-application-controller"
OPERATOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:modelops"
AGENT = f"system:serviceaccount:{OPERATOR_NAMESPACE}:modelops-delivery"
COLLECTOR = "system:serviceaccount:kube-system:generic-garbage-collector"

DIGEST = "sha256:" + "ab" * 32
MODEL = {"type": "LLM", "owner": {"team": "risk"}}
GOVERNED = {**MODEL, "governance": {"approvals": {"required": 2, "environments": ["prod"]}}}
WEAK = {"approvals": {"required": 0, "environments": ["prod"]}}
VERSION = {
    "modelRef": "fraud",
    "version": "7",
    "source": {"huggingFace": {"repo": "acme/fraud", "revision": "main"}},
}
APPROVAL = {
    "modelRef": "fraud",
    "versionRef": "fraud-7",
    "decision": "Approve",
    "artifactDigest": DIGEST,
    "specHash": DIGEST,
    "environments": ["prod"],
    "reason": "the evaluation report is clean",
}
PLURALS = {
    "Model": "models",
    "ModelVersion": "modelversions",
    "InferenceService": "inferenceservices",
    "RolloutPolicy": "rolloutpolicies",
    "ModelApproval": "modelapprovals",
}
SPECS: dict[str, dict[str, Any]] = {
    "Model": MODEL,
    "ModelVersion": VERSION,
    "InferenceService": {"model": {"version": "fraud-7"}},
    "RolloutPolicy": {},
    "ModelApproval": APPROVAL,
}


# --- vocabulary --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to one request."""

    code: int
    body: dict[str, Any]

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["spec"]
        return found

    def ok(self) -> "Answer":
        """Return itself: the request was preparation, and worked."""
        assert self.code < 300, self.body
        return self


class Person:
    """One user of the API server, or one token."""

    def __init__(self, name: str, kubeconfig: Path, token: str = "") -> None:
        settings = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=settings)
        entry = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]
        headers = {"Impersonate-User": entry["as"]} if "as" in entry else {}
        if token:
            settings.cert_file = settings.key_file = None
            headers = {"Authorization": f"Bearer {token}"}
        elif settings.api_key:
            headers["Authorization"] = settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        self.name = name
        self._host = settings.host
        self._pool = client.ApiClient(settings).rest_client.pool_manager
        self._headers = headers

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Answer:
        text = None if body is None else json.dumps(body)
        headers = {"Content-Type": kind, "Accept": "application/json", **self._headers}
        got = self._pool.request(method, self._host + path, body=text, headers=headers, retries=False)
        return Answer(got.status, json.loads(got.data))

    def create(self, obj: dict[str, Any], **query: str) -> Answer:
        return self.ask("POST", path_of(obj, named=False, **query), obj)

    def replace(self, obj: dict[str, Any], sub: str = "") -> Answer:
        return self.ask("PUT", path_of(obj, sub), obj)

    def merge(self, obj: dict[str, Any], change: dict[str, Any], sub: str = "") -> Answer:
        return self.ask("PATCH", path_of(obj, sub), change, "application/merge-patch+json")

    def apply(self, obj: dict[str, Any], sub: str = "", force: str = "false") -> Answer:
        """Apply on the server; the metadata of a stored object is not part of what is applied."""
        meta = {key: obj["metadata"].get(key) for key in ("name", "namespace") if key in obj["metadata"]}
        path = path_of(obj, sub, fieldManager=self.name, force=force)
        return self.ask("PATCH", path, {**obj, "metadata": meta}, "application/apply-patch+yaml")

    def delete(self, obj: dict[str, Any]) -> Answer:
        return self.ask("DELETE", path_of(obj))

    def delete_all(self, obj: dict[str, Any]) -> Answer:
        """Delete the whole collection that the object is in, or those with its label."""
        mark = obj["metadata"]["labels"]["case"]
        return self.ask("DELETE", path_of(obj, named=False, labelSelector=f"case={mark}"))

    def read(self, obj: dict[str, Any]) -> Answer:
        return self.ask("GET", path_of(obj))


def path_of(obj: dict[str, Any], sub: str = "", *, named: bool = True, **query: str) -> str:
    version, meta = obj["apiVersion"], obj["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    place = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    plural = PLURALS.get(obj["kind"], f"{obj['kind'].lower()}s").replace("policys", "policies")
    path = f"{root}{place}/{plural}" + (f"/{meta['name']}" if named else "") + (f"/{sub}" if sub else "")
    return path + ("?" + "&".join(f"{key}={value}" for key, value in query.items()) if query else "")


class World:
    """The installed gate, its people, and objects to try things on."""

    def __init__(self, api: Any, namespace: str, *, stamps: bool) -> None:
        self._api = api
        self._people: dict[str, Person] = {}
        self.namespace = namespace
        self.other = f"{namespace}-other"
        self.stamps = stamps

    def __getitem__(self, name: str) -> Person:
        if name not in self._people:
            path = self._api.kubeconfig if name == CLUSTER_ADMIN else self._api.user(name)
            self._people[name] = Person(name, Path(path))
        return self._people[name]

    def impersonating(self, name: str) -> Person:
        """Return the administrator acting as somebody."""
        return Person(name, impersonating(Path(self._api.kubeconfig), name, ()))

    def with_token(self, token: str) -> Person:
        return Person("agent", Path(self._api.kubeconfig), token)

    def thing(self, kind: str, spec: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
        """Return an object with a name of its own, stored nowhere."""
        name = f"{kind.lower()}-{uuid.uuid4().hex[:8]}"
        return {
            "apiVersion": "modelops.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"case": name}, **meta},
            "spec": deepcopy(SPECS[kind] if spec is None else spec),
        }

    def approval(self, by: str = "", uid: str = "", **changes: Any) -> dict[str, Any]:
        """Return an approval that names *by* as its approver."""
        named = {"approver": {"username": by, **({"uid": uid} if uid else {})}} if by else {}
        return self.thing("ModelApproval", {**APPROVAL, **named, **changes})

    def version(self, by: str = AUTHOR, **changes: Any) -> dict[str, Any]:
        return self.thing("ModelVersion", {**VERSION, **({"createdBy": by} if by else {}), **changes})

    def stored(self, obj: dict[str, Any], by: str) -> dict[str, Any]:
        """Return the object after *by* created it."""
        return self[by].create(obj).ok().body

    def stored_approval(self) -> dict[str, Any]:
        return self.stored(self.approval(APPROVER), APPROVER)

    def used_version(self) -> dict[str, Any]:
        """Return a version of which the operator says that two services use it."""
        version = self.stored(self.version(), AUTHOR)
        users = [
            {"kind": "InferenceService", "namespace": self.namespace, "name": n} for n in ("chat", "bot")
        ]
        return self[OPERATOR].merge(version, {"status": {"usedBy": users}}, "status").ok().body


Act = Callable[[World], Answer]


# --- the installed gate ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def helm(api: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run helm on the cluster and return what it printed."""
    program = binaries.ensure("helm") / "helm"
    home = tmp_path_factory.mktemp("helm")
    env = {
        **os.environ,
        "KUBECONFIG": str(api.kubeconfig),
        **{f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")},
    }

    def run(*args: str) -> str:
        done = subprocess.run([program, *args], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module", params=[True, False], ids=["stamped", "typed"])
def world(request: pytest.FixtureRequest, api: Any, helm: Callable[..., str]) -> Iterator[World]:
    """The gate in force, with or without stamping, and two namespaces with everybody's rights."""
    world = World(api, f"team-{uuid.uuid4().hex[:6]}", stamps=request.param)
    admin = world[CLUSTER_ADMIN]
    install(helm, stamping=request.param)
    made = list(_rights(world))
    for obj in made:
        admin.create(obj).ok()
    try:
        until("the gate in force", lambda: _is_in_force(world))
        yield world
    finally:
        for obj in made:
            admin.delete(obj)
        until("what was made gone", lambda: all(admin.read(obj).code == 404 for obj in made), 60)
        if not request.param:
            _uninstall(helm, admin)


def install(helm: Callable[..., str], *, stamping: bool) -> None:
    helm(
        *("upgrade", "--install", "modelops", str(ROOT / "charts" / "modelops")),
        *("--namespace", OPERATOR_NAMESPACE, "--create-namespace"),
        *("--set", "prometheus.url=http://prometheus.monitoring.svc:9090"),
        *("--set", f"gate.stamping={str(stamping).lower()}", "--set", "crds.keep=false"),
        *("--set", "replicaCount=0", "--set", "cleanup.enabled=false"),
    )


def _uninstall(helm: Callable[..., str], admin: Person) -> None:
    helm("uninstall", "modelops", "--namespace", OPERATOR_NAMESPACE, "--wait")
    place = cluster_thing("Namespace", OPERATOR_NAMESPACE)
    admin.delete(place)
    api = "apiextensions.k8s.io/v1"
    left = [cluster_thing("CustomResourceDefinition", f"{one}.modelops.dev", api) for one in PLURALS.values()]
    until("the rest gone", lambda: all(admin.read(obj).code == 404 for obj in (place, *left)), 60)


def _is_in_force(world: World) -> bool:
    """Try the first and the last object of the gate, and what stamping changes."""
    tried = world[AUTHOR].create(world.approval(AUTHOR), dryRun="All")
    node = world[AUTHOR].create(model_node("unknown"), dryRun="All")
    version = world[AUTHOR].create(world.version(by=""), dryRun="All")
    return (
        "lacks verb approve" in tried.message
        and "node agents" in node.message
        and (version.code == 201) == world.stamps
        and world[OPERATOR].ask("GET", "/api/v1/nodes").code == 200
    )


def until(what: str, check: Callable[[], bool], seconds: float = 30) -> None:
    """Wait: policies act some seconds after they were changed."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what}: did not happen within {seconds:.0f} s"
        time.sleep(0.2)


def _rights(world: World) -> Iterator[dict[str, Any]]:
    """Yield the namespaces and who may do what in them."""
    for namespace in (world.namespace, world.other):
        yield cluster_thing("Namespace", namespace)
    everything = [{"apiGroups": ["modelops.dev"], "resources": ["*"], "verbs": ["*"]}]
    authors = [AUTHOR, BOTH, GOVERNOR, GITOPS]
    yield from _granted(world, "author", everything, authors, cluster=True)
    decide = _rule("approval.modelops.dev", "models", "approve", "revoke", names=["fraud"])
    record = _rule("modelops.dev", "modelapprovals", "get", "list", "create", "patch")
    yield from _granted(world, "approve-fraud", [decide, record], [APPROVER, BOTH])
    only = _rule("approval.modelops.dev", "models", "approve", names=["fraud"])
    yield from _granted(world, "clerk", [only, _rule("modelops.dev", "modelapprovals", "create")], [CLERK])
    govern = [
        _rule("approval.modelops.dev", "models", "govern"),
        _rule("approval.modelops.dev", "modelapprovals", "purge"),
    ]
    yield from _granted(world, "governor", govern, [GOVERNOR])
    yield _binding(world, "officer", {"kind": "ClusterRole", "name": "modelops-approver"}, [OFFICER])


def _rule(group: str, resource: str, *verbs: str, names: list[str] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
    return rule | ({"resourceNames": names} if names else {})


def _granted(
    world: World, name: str, rules: list[dict[str, Any]], people: list[str], *, cluster: bool = False
) -> Iterator[dict[str, Any]]:
    kind = "ClusterRole" if cluster else "Role"
    role = cluster_thing(kind, f"{world.namespace}-{name}", "rbac.authorization.k8s.io/v1")
    if not cluster:
        role["metadata"]["namespace"] = world.namespace
    yield role | {"rules": rules}
    yield _binding(world, name, {"kind": kind, "name": role["metadata"]["name"]}, people, cluster=cluster)


def _binding(
    world: World, name: str, role: dict[str, str], people: list[str], *, cluster: bool = False
) -> dict[str, Any]:
    kind = "ClusterRoleBinding" if cluster else "RoleBinding"
    binding = cluster_thing(kind, f"{world.namespace}-{name}", "rbac.authorization.k8s.io/v1")
    if not cluster:
        binding["metadata"]["namespace"] = world.namespace
    group = "rbac.authorization.k8s.io"
    subjects = [{"apiGroup": group, "kind": "User", "name": one} for one in people]
    return binding | {"roleRef": {"apiGroup": group, **role}, "subjects": subjects}


def cluster_thing(kind: str, name: str, version: str = "v1") -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def model_node(name: str) -> dict[str, Any]:
    return {"apiVersion": "modelops.dev/v1alpha1", "kind": "ModelNode", "metadata": {"name": name}}


def from_namespace(obj: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def judged(answer: Answer, wanted: tuple[int, str]) -> None:
    code, words = wanted
    assert (answer.code, words in answer.message) == (code, True), answer.body


DENIED = 403
IMMUTABLE = 422
