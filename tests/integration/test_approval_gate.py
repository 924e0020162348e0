"""The approval gate as the chart installs it: who may approve, and every way around it, on a real API server.

Each case is one request of one person.  All run twice: with stamped identities, and as before Kubernetes
1.36, when people type their own name.
"""

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
from modelops.controllers.gate import forged
from modelops.governance import policies

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
        return self.ask("POST", _path(obj, named=False, **query), obj)

    def replace(self, obj: dict[str, Any], sub: str = "") -> Answer:
        return self.ask("PUT", _path(obj, sub), obj)

    def merge(self, obj: dict[str, Any], change: dict[str, Any], sub: str = "") -> Answer:
        return self.ask("PATCH", _path(obj, sub), change, "application/merge-patch+json")

    def apply(self, obj: dict[str, Any], sub: str = "", force: str = "false") -> Answer:
        """Apply on the server; the metadata of a stored object is not part of what is applied."""
        meta = {key: obj["metadata"].get(key) for key in ("name", "namespace") if key in obj["metadata"]}
        path = _path(obj, sub, fieldManager=self.name, force=force)
        return self.ask("PATCH", path, {**obj, "metadata": meta}, "application/apply-patch+yaml")

    def delete(self, obj: dict[str, Any]) -> Answer:
        return self.ask("DELETE", _path(obj))

    def delete_all(self, obj: dict[str, Any]) -> Answer:
        """Delete the whole collection that the object is in, or those with its label."""
        mark = obj["metadata"]["labels"]["case"]
        return self.ask("DELETE", _path(obj, named=False, labelSelector=f"case={mark}"))

    def read(self, obj: dict[str, Any]) -> Answer:
        return self.ask("GET", _path(obj))


def _path(obj: dict[str, Any], sub: str = "", *, named: bool = True, **query: str) -> str:
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
    _install(helm, stamping=request.param)
    made = list(_rights(world))
    for obj in made:
        admin.create(obj).ok()
    try:
        _until("the gate in force", lambda: _is_in_force(world))
        yield world
    finally:
        for obj in made:
            admin.delete(obj)
        _until("what was made gone", lambda: all(admin.read(obj).code == 404 for obj in made), 60)
        if not request.param:
            _uninstall(helm, admin)


def _install(helm: Callable[..., str], *, stamping: bool) -> None:
    helm(
        *("upgrade", "--install", "modelops", str(ROOT / "charts" / "modelops")),
        *("--namespace", OPERATOR_NAMESPACE, "--create-namespace"),
        *("--set", "prometheus.url=http://prometheus.monitoring.svc:9090"),
        *("--set", f"gate.stamping={str(stamping).lower()}", "--set", "crds.keep=false"),
        *("--set", "replicaCount=0", "--set", "cleanup.enabled=false"),
    )


def _uninstall(helm: Callable[..., str], admin: Person) -> None:
    helm("uninstall", "modelops", "--namespace", OPERATOR_NAMESPACE, "--wait")
    place = _cluster_thing("Namespace", OPERATOR_NAMESPACE)
    admin.delete(place)
    api = "apiextensions.k8s.io/v1"
    left = [
        _cluster_thing("CustomResourceDefinition", f"{one}.modelops.dev", api) for one in PLURALS.values()
    ]
    _until("the rest gone", lambda: all(admin.read(obj).code == 404 for obj in (place, *left)), 60)


def _is_in_force(world: World) -> bool:
    """Try the first and the last object of the gate, and what stamping changes."""
    tried = world[AUTHOR].create(world.approval(AUTHOR), dryRun="All")
    node = world[AUTHOR].create(_node("unknown"), dryRun="All")
    version = world[AUTHOR].create(world.version(by=""), dryRun="All")
    return (
        "lacks verb approve" in tried.message
        and "node agents" in node.message
        and (version.code == 201) == world.stamps
        and world[OPERATOR].ask("GET", "/api/v1/nodes").code == 200
    )


def _until(what: str, check: Callable[[], bool], seconds: float = 30) -> None:
    """Wait: policies act some seconds after they were changed."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what}: did not happen within {seconds:.0f} s"
        time.sleep(0.2)


def _rights(world: World) -> Iterator[dict[str, Any]]:
    """Yield the namespaces and who may do what in them."""
    for namespace in (world.namespace, world.other):
        yield _cluster_thing("Namespace", namespace)
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
    role = _cluster_thing(kind, f"{world.namespace}-{name}", "rbac.authorization.k8s.io/v1")
    if not cluster:
        role["metadata"]["namespace"] = world.namespace
    yield role | {"rules": rules}
    yield _binding(world, name, {"kind": kind, "name": role["metadata"]["name"]}, people, cluster=cluster)


def _binding(
    world: World, name: str, role: dict[str, str], people: list[str], *, cluster: bool = False
) -> dict[str, Any]:
    kind = "ClusterRoleBinding" if cluster else "RoleBinding"
    binding = _cluster_thing(kind, f"{world.namespace}-{name}", "rbac.authorization.k8s.io/v1")
    if not cluster:
        binding["metadata"]["namespace"] = world.namespace
    group = "rbac.authorization.k8s.io"
    subjects = [{"apiGroup": group, "kind": "User", "name": one} for one in people]
    return binding | {"roleRef": {"apiGroup": group, **role}, "subjects": subjects}


def _cluster_thing(kind: str, name: str, version: str = "v1") -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def _node(name: str) -> dict[str, Any]:
    return {"apiVersion": "modelops.dev/v1alpha1", "kind": "ModelNode", "metadata": {"name": name}}


def _from_namespace(obj: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


# --- attempts ----------------------------------------------------------------------------------------

DENIED = 403
IMMUTABLE = 422
OWNER = {
    "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": str(uuid.uuid4())}]
}


def _impersonated(w: World) -> Answer:
    return w.impersonating(APPROVER).create(w.approval(APPROVER))


APPROVING: list[Any] = [
    pytest.param(
        lambda w: w[AUTHOR].create(w.approval(AUTHOR)),
        (DENIED, "user author lacks verb approve on models/fraud"),
        id="an author who holds every verb of the product's group may not approve",
    ),
    pytest.param(
        lambda w: w[AUTHOR].create(w.approval(AUTHOR, decision="Reject")),
        (DENIED, "lacks verb approve"),
        id="nor reject",
    ),
    pytest.param(
        lambda w: w[AUTHOR].create(w.approval(AUTHOR, decision="Revoke")),
        (DENIED, "lacks verb revoke"),
        id="nor revoke",
    ),
    pytest.param(
        lambda w: w[AUTHOR].create(w.approval(APPROVER)), (DENIED, ""), id="nor approve in an approver's name"
    ),
    pytest.param(
        lambda w: w[AUTHOR].apply(w.approval(APPROVER), force="true"),
        (DENIED, ""),
        id="nor by server-side apply with force",
    ),
    pytest.param(
        lambda w: w[GITOPS].create(w.approval(GITOPS)),
        (DENIED, "lacks verb approve"),
        id="nor does the account of a GitOps controller approve without the verb",
    ),
    pytest.param(
        lambda w: w[OPERATOR].create(_from_namespace(w.approval(OPERATOR), OPERATOR_NAMESPACE)),
        (DENIED, "lacks verb approve"),
        id="nor the operator itself",
    ),
    pytest.param(
        lambda w: w[APPROVER].create(w.approval(APPROVER)), (201, ""), id="an approver approves the own model"
    ),
    pytest.param(
        lambda w: w[APPROVER].create(w.approval(APPROVER, decision="Revoke")), (201, ""), id="and revokes"
    ),
    pytest.param(
        lambda w: w[CLERK].create(w.approval(CLERK)), (201, ""), id="a holder of approve alone approves"
    ),
    pytest.param(
        lambda w: w[CLERK].create(w.approval(CLERK, decision="Revoke")),
        (DENIED, "user clerk lacks verb revoke on models/fraud"),
        id="a holder of approve alone may not revoke",
    ),
    pytest.param(
        lambda w: w[APPROVER].create(w.approval(APPROVER, modelRef="risk")),
        (DENIED, "user approver lacks verb approve on models/risk"),
        id="an approver of one model may not approve another",
    ),
    pytest.param(
        lambda w: w[BOTH].create(_from_namespace(w.approval(BOTH), w.other)),
        (DENIED, "lacks verb approve"),
        id="nor the model of that name in another namespace",
    ),
    pytest.param(
        lambda w: w[BOTH].create(w.approval(BOTH)),
        (201, ""),
        id="author and approver in one: taken, since four eyes are the operator's to ask for",
    ),
    pytest.param(
        lambda w: w[OFFICER].create(w.approval(OFFICER, modelRef="anything")),
        (201, ""),
        id="the chart's role for approvers approves every model of the namespace",
    ),
    pytest.param(_impersonated, (201, ""), id="an administrator may act as an approver"),
    pytest.param(
        lambda w: w[APPROVER].apply(w.approval(APPROVER)),
        (201, ""),
        id="server-side apply works with create and patch",
    ),
    pytest.param(
        lambda w: w[CLERK].apply(w.approval(CLERK)),
        (DENIED, "cannot patch"),
        id="server-side apply needs patch",
    ),
]

THE_RECORD: list[Any] = [
    pytest.param(
        lambda w: w[APPROVER].merge(w.stored_approval(), {"spec": {"environments": ["dev"]}}),
        (IMMUTABLE, "a ModelApproval is immutable"),
        id="an approver may not edit the own approval",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored_approval(), {"spec": {"approver": {"username": AUTHOR}}}),
        (IMMUTABLE, "a ModelApproval is immutable"),
        id="nobody may change who approved",
    ),
    pytest.param(
        lambda w: w[AUTHOR].apply(
            {**w.stored_approval(), "spec": {**APPROVAL, "approver": {"username": AUTHOR}}}, force="true"
        ),
        (IMMUTABLE, ""),
        id="nor by server-side apply with force",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored_approval(), {"spec": {"approver": None}}),
        (IMMUTABLE, ""),
        id="nor take the name away",
    ),
    pytest.param(
        lambda w: w[APPROVER].create(w.thing("ModelApproval", {**APPROVAL, "environments": []})),
        (422, "environments"),
        id="an approval for no environment is refused",
    ),
    pytest.param(
        lambda w: w[APPROVER].create(
            w.thing("ModelApproval", {k: v for k, v in APPROVAL.items() if k != "environments"})
        ),
        (422, "environments"),
        id="an approval that leaves its environments out is refused",
    ),
    pytest.param(
        lambda w: w[APPROVER].create(
            w.thing("ModelApproval", {**APPROVAL, "approver": {"username": APPROVER}}, **OWNER)
        ),
        (DENIED, "an approval has no owner"),
        id="an approval may not be made with an owner that would take it along",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored_approval(), {"metadata": OWNER}),
        (DENIED, "an approval has no owner"),
        id="nor be given one afterwards",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete(w.stored_approval()),
        (DENIED, "approval records may not be deleted"),
        id="an author may not delete a record",
    ),
    pytest.param(
        lambda w: w[COLLECTOR].delete(w.stored_approval()),
        (DENIED, "approval records may not be deleted"),
        id="nor the garbage collector on somebody's behalf",
    ),
    pytest.param(
        lambda w: w[OPERATOR].delete(w.stored_approval()), (DENIED, "cannot delete"), id="nor the operator"
    ),
    pytest.param(
        lambda w: w[GOVERNOR].delete(w.stored_approval()), (200, ""), id="a holder of purge may delete it"
    ),
]

VERSIONS: list[Any] = [
    pytest.param(lambda w: w[AUTHOR].create(w.version()), (201, ""), id="an author registers a version"),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored(w.version(), AUTHOR), {"spec": {"createdBy": BOTH}}),
        (IMMUTABLE, "createdBy of a ModelVersion is immutable"),
        id="an author may not hand the authorship to somebody else",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored(w.version(), AUTHOR), {"spec": {"createdBy": None}}),
        (IMMUTABLE, "createdBy of a ModelVersion is immutable"),
        id="nor take it away",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(
            w.stored(w.version(), AUTHOR), {"spec": {"source": {"huggingFace": {"repo": "acme/other"}}}}
        ),
        (IMMUTABLE, "source of a ModelVersion is immutable"),
        id="nor change the source",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored(w.version(), AUTHOR), {"spec": {"lifecycle": "Deprecated"}}),
        (200, ""),
        id="an author deprecates a version",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete(w.stored(w.version(), AUTHOR)), (200, ""), id="and deletes an unused one"
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete(w.used_version()),
        (DENIED, "is used by 2 services; move them to another version first"),
        id="a version in use may not be deleted",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete_all(w.used_version()),
        (DENIED, "is used by 2 services"),
        id="nor with the whole collection",
    ),
    pytest.param(
        lambda w: w[COLLECTOR].delete(w.used_version()),
        (DENIED, "is used by 2 services"),
        id="nor by the garbage collector, after its owner went",
    ),
]

GOVERNANCE: list[Any] = [
    pytest.param(
        lambda w: w[AUTHOR].merge(
            w.stored(w.thing("Model", GOVERNED), AUTHOR), {"spec": {"governance": WEAK}}
        ),
        (DENIED, "user author lacks verb govern on models/model-"),
        id="an author may not weaken the governance",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(
            w.stored(w.thing("Model", GOVERNED), AUTHOR), {"spec": {"governance": None}}
        ),
        (DENIED, "lacks verb govern"),
        id="nor remove it",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete(w.stored(w.thing("Model", GOVERNED), AUTHOR)),
        (DENIED, "which deleting a Model with spec.governance needs"),
        id="nor delete the Model, to make a weaker one",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete_all(w.stored(w.thing("Model", GOVERNED), AUTHOR)),
        (DENIED, "lacks verb govern"),
        id="nor with the whole collection",
    ),
    pytest.param(
        lambda w: w[COLLECTOR].delete(w.stored(w.thing("Model", GOVERNED), AUTHOR)),
        (DENIED, "lacks verb govern"),
        id="nor let the garbage collector delete it",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(
            w.stored(w.thing("Model", GOVERNED), AUTHOR), {"spec": {"owner": {"team": "fraud"}}}
        ),
        (200, ""),
        id="an author changes the rest of the Model",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete(w.stored(w.thing("Model"), AUTHOR)),
        (200, ""),
        id="and deletes a Model without governance",
    ),
    pytest.param(
        lambda w: w[GOVERNOR].merge(
            w.stored(w.thing("Model", GOVERNED), AUTHOR), {"spec": {"governance": WEAK}}
        ),
        (200, ""),
        id="a holder of govern changes the governance",
    ),
    pytest.param(
        lambda w: w[GOVERNOR].delete(w.stored(w.thing("Model", GOVERNED), AUTHOR)),
        (200, ""),
        id="and deletes the Model",
    ),
]


def judged(answer: Answer, wanted: tuple[int, str]) -> None:
    code, words = wanted
    assert (answer.code, words in answer.message) == (code, True), answer.body


@pytest.mark.parametrize(("act", "wanted"), APPROVING)
def test_only_who_was_given_the_verb_for_the_model_decides(world: World, act: Act, wanted: Any) -> None:
    judged(act(world), wanted)


@pytest.mark.parametrize(("act", "wanted"), THE_RECORD)
def test_a_decision_once_made_stays_as_it_is(world: World, act: Act, wanted: Any) -> None:
    judged(act(world), wanted)


@pytest.mark.parametrize(("act", "wanted"), VERSIONS)
def test_a_version_keeps_its_author_and_stays_while_it_is_used(world: World, act: Act, wanted: Any) -> None:
    judged(act(world), wanted)


@pytest.mark.parametrize(("act", "wanted"), GOVERNANCE)
def test_who_is_governed_does_not_weaken_the_governance(world: World, act: Act, wanted: Any) -> None:
    judged(act(world), wanted)


# --- identities: what differs with and without stamping ----------------------------------------------

IDENTITIES: list[Any] = [
    pytest.param(APPROVER, lambda w: w.approval(APPROVER), APPROVER, "", id="an approver names the own name"),
    pytest.param(
        APPROVER,
        lambda w: w.approval(),
        APPROVER,
        "set spec.approver.username to approver",
        id="an approver names nobody",
    ),
    pytest.param(
        APPROVER,
        lambda w: w.approval(OFFICER),
        APPROVER,
        "set spec.approver.username to approver",
        id="an approver names another approver",
    ),
    pytest.param(
        APPROVER,
        lambda w: w.approval(APPROVER, uid="forged"),
        APPROVER,
        "spec.approver.uid must be that of the authenticated requester",
        id="an approver names another's uid",
    ),
    pytest.param(AUTHOR, lambda w: w.version(AUTHOR), AUTHOR, "", id="an author names the own name"),
    pytest.param(
        AUTHOR,
        lambda w: w.version(""),
        AUTHOR,
        "set it to author",
        id="an author names nobody as the creator",
    ),
    pytest.param(
        AUTHOR, lambda w: w.version(BOTH), AUTHOR, "set it to author", id="an author names another creator"
    ),
]


@pytest.mark.parametrize(("who", "made", "stored", "refusal"), IDENTITIES)
def test_the_stored_identity_is_the_requesters(
    world: World, who: str, made: Callable[[World], dict[str, Any]], stored: str, refusal: str
) -> None:
    answer = world[who].create(made(world))
    if refusal and not world.stamps:
        judged(answer, (DENIED, refusal))
        return
    spec = answer.ok().spec
    recorded = spec["approver"] if "approver" in spec else {"username": spec["createdBy"]}
    assert (recorded["username"], recorded.get("uid", "")) == (stored, "")


@pytest.mark.parametrize("made", ["approval", "version"])
def test_applying_a_file_again_changes_nothing(world: World, made: str) -> None:
    obj, who = (world.approval(), APPROVER) if made == "approval" else (world.version(by=""), AUTHOR)
    if not world.stamps:
        obj = world.approval(APPROVER) if made == "approval" else world.version(AUTHOR)
    first = world[who].apply(obj).ok()
    again = world[who].apply(obj).ok()
    assert again.body["metadata"]["resourceVersion"] == first.body["metadata"]["resourceVersion"]
    assert again.spec == first.spec


def test_applying_somebody_elses_approval_leaves_it_theirs(world: World) -> None:
    approval = world.stored_approval()
    again = world[AUTHOR].apply({**approval, "spec": {**APPROVAL, "approver": {"username": APPROVER}}})
    assert again.ok().spec == approval["spec"]


def test_deleting_all_records_at_once_deletes_none(world: World) -> None:
    approval = world.stored_approval()
    judged(world[AUTHOR].delete_all(approval), (DENIED, "approval records may not be deleted"))
    assert world[CLUSTER_ADMIN].read(approval).ok().body["metadata"].get("deletionTimestamp") is None


# --- status ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PLURALS)
def test_only_the_operator_writes_the_status_of(world: World, kind: str) -> None:
    me = _own_name(world[CLUSTER_ADMIN])
    identity = {"ModelApproval": {"approver": {"username": me}}, "ModelVersion": {"createdBy": me}}
    spec = {**SPECS[kind], **identity.get(kind, {})}
    status = {"observedGeneration": 1}
    thing = world[CLUSTER_ADMIN].create({**world.thing(kind, spec), "status": status}).ok().body
    assert "status" not in thing, "a status must not come in with the object"
    words = f"status of {PLURALS[kind]} is written by the ModelOps operator only"
    judged(world[AUTHOR].merge(thing, {"status": status}, "status"), (DENIED, words))
    judged(world[AUTHOR].replace({**thing, "status": status}, "status"), (DENIED, words))
    applied = {**thing, "spec": None, "status": status}
    del applied["spec"]
    judged(world[AUTHOR].apply(applied, "status", force="true"), (DENIED, words))
    judged(world[APPROVER].merge(thing, {"status": status}, "status"), (DENIED, ""))
    assert world[OPERATOR].apply(applied, "status").ok().body["status"] == status


def _own_name(person: Person) -> str:
    api = "authentication.k8s.io/v1"
    asked = person.ask(
        "POST", f"/apis/{api}/selfsubjectreviews", {"apiVersion": api, "kind": "SelfSubjectReview"}
    )
    return str(asked.ok().body["status"]["userInfo"]["username"])


@pytest.fixture(params=["modelops-delivery"])
def tokens(world: World, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Tokens of a node agent's account: of pods on two nodes, and of no pod."""
    account: str = request.param
    admin = world[CLUSTER_ADMIN]
    made = []
    found = {}
    for node in ("gate-n1", "gate-n2"):
        made.append(_cluster_thing("Node", node))
        pod = _cluster_thing("Pod", f"agent-{node}")
        pod["metadata"]["namespace"] = OPERATOR_NAMESPACE
        pod["spec"] = {
            "nodeName": node,
            "serviceAccountName": account,
            "containers": [{"name": "agent", "image": "modelops"}],
            "tolerations": [{"operator": "Exists"}],
        }
        made.append(pod)
    for obj in made:
        stored = admin.create(obj).ok().body
        if obj["kind"] == "Pod":
            name = obj["metadata"]["name"]
            bound = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": stored["metadata"]["uid"]}
            found[obj["spec"]["nodeName"]] = _token(admin, account, bound)
    found["no pod"] = _token(admin, account, None)
    yield found
    for obj in reversed(made):
        admin.ask("DELETE", _path(obj, gracePeriodSeconds="0")).ok()
    for node in ("gate-n1", "gate-n2"):
        admin.delete(_node(node))


def _token(admin: Person, account: str, bound: dict[str, str] | None) -> str:
    path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/serviceaccounts/{account}/token"
    spec = {"expirationSeconds": 600, **({"boundObjectRef": bound} if bound else {})}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return str(admin.ask("POST", path, body).ok().body["status"]["token"])


@pytest.mark.parametrize("tokens", ["modelops-delivery", "modelops-nodes"], indirect=True)
def test_an_agent_writes_the_model_node_of_its_own_node_only(world: World, tokens: dict[str, str]) -> None:
    mine, other = _node("gate-n1"), _node("gate-n2")
    agent = world.with_token(tokens["gate-n1"])
    status = {"observedGeneration": 1}
    own = "a node agent writes the ModelNode of its own node only"

    judged(agent.apply(other), (DENIED, own))
    judged(agent.apply(mine), (201, ""))
    judged(agent.apply({**mine, "status": status}, "status"), (200, ""))
    world.with_token(tokens["gate-n2"]).apply(other).ok()
    judged(agent.apply({**other, "status": status}, "status"), (DENIED, own))
    judged(agent.merge(other, {"metadata": {"labels": {"a": "b"}}}), (DENIED, own))
    nobody = world.with_token(tokens["no pod"])
    judged(nobody.apply({**mine, "status": {"observedGeneration": 2}}, "status"), (DENIED, own))
    author = world[AUTHOR].merge(mine, {"status": {"observedGeneration": 2}}, "status")
    judged(author, (DENIED, "ModelNodes are written by the node agents only"))
    judged(world[OPERATOR].merge(mine, {"status": {}}, "status"), (DENIED, ""))


@pytest.mark.parametrize("tokens", ["modelops-nodes"], indirect=True)
def test_the_agent_that_reads_gpus_reads_nothing_else(world: World, tokens: dict[str, str]) -> None:
    agent = world.with_token(tokens["gate-n1"])
    judged(agent.ask("GET", "/api/v1/pods"), (DENIED, "cannot list"))
    judged(agent.ask("GET", "/api/v1/secrets"), (DENIED, "cannot list"))
    judged(agent.ask("GET", "/apis/modelops.dev/v1alpha1/modelversions"), (DENIED, "cannot list"))


def test_an_agent_may_read_what_it_serves_and_write_nothing_else(
    world: World, tokens: dict[str, str]
) -> None:
    agent = world.with_token(tokens["gate-n1"])
    version = world.stored(world.version(), AUTHOR)
    listed = f"/apis/modelops.dev/v1alpha1/namespaces/{world.namespace}/modelversions"
    judged(agent.ask("GET", listed), (200, ""))
    judged(agent.ask("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dgate-n1"), (200, ""))
    judged(agent.ask("GET", "/api/v1/secrets"), (DENIED, "cannot list"))
    judged(agent.merge(version, {"status": {"phase": "Ready"}}, "status"), (DENIED, ""))
    judged(agent.create(world.approval(AGENT)), (DENIED, "cannot create"))


# --- the gate itself ---------------------------------------------------------------------------------


def test_what_the_server_stores_is_what_was_shipped(world: World) -> None:
    for wanted in policies.required(stamping=world.stamps):
        found = world[CLUSTER_ADMIN].read(wanted).ok().body
        assert policies.spec_digest(found) == policies.spec_digest(wanted), found["spec"]
        readable = world[OPERATOR].read(wanted)
        assert readable.code == 200, readable.body


def test_the_server_finds_no_fault_in_the_types_of_any_expression(world: World) -> None:
    for wanted in policies.required(stamping=False):
        if wanted["kind"] != "ValidatingAdmissionPolicy":
            continue
        found: dict[str, Any] = {}

        def is_checked(found: dict[str, Any] = found, wanted: dict[str, Any] = wanted) -> bool:
            found.update(world[CLUSTER_ADMIN].read(wanted).ok().body)
            return bool(found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"])

        _until(f"type check of {wanted['metadata']['name']}", is_checked)
        assert not found["status"]["typeChecking"].get("expressionWarnings"), found["status"]


def test_a_forged_approval_is_denied_by_the_policys_name(world: World) -> None:
    answer = world[OPERATOR].create(forged(OPERATOR_NAMESPACE), dryRun="All")
    judged(answer, (DENIED, f"ValidatingAdmissionPolicy '{policies.APPROVAL}' with binding"))


def test_a_namespace_with_records_and_versions_in_use_can_be_deleted(world: World) -> None:
    world.stored_approval()
    version, model = world.used_version(), world.stored(world.thing("Model", GOVERNED), AUTHOR)
    place = _cluster_thing("Namespace", world.namespace)
    admin = world[CLUSTER_ADMIN]
    admin.delete(place).ok()
    _until("the namespace gone", lambda: admin.read(place).code == 404, 60)
    assert [admin.read(obj).code for obj in (version, model)] == [404, 404]


def test_without_its_binding_the_policy_denies_nothing(world: World, helm: Callable[..., str]) -> None:
    """This is what the operator's self-test is there to notice."""
    binding = next(one for one in policies.GUARDS if one["kind"].endswith("Binding"))
    world[CLUSTER_ADMIN].delete(binding).ok()
    attempt = forged(OPERATOR_NAMESPACE)

    def is_accepted() -> bool:
        return world[OPERATOR].create(attempt, dryRun="All").code == 201

    _until("the policy out of force", is_accepted)
    _install(helm, stamping=world.stamps)
    _until("the policy in force again", lambda: not is_accepted())


def test_the_gates_key_outlives_an_upgrade(world: World, helm: Callable[..., str]) -> None:
    secret = _cluster_thing("Secret", "modelops-gate")
    secret["metadata"]["namespace"] = OPERATOR_NAMESPACE
    before = world[CLUSTER_ADMIN].read(secret).ok().body["data"]
    _install(helm, stamping=world.stamps)
    assert world[CLUSTER_ADMIN].read(secret).ok().body["data"] == before
