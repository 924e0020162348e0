"""What holds for every plan, whatever was seen."""

import json
from collections.abc import Mapping
from typing import Any

from modelops.api import names
from modelops.governance import audit
from modelops.plan import Manifest, Plan
from modelops.serving import revisions
from modelops.serving.manifests import Owner
from tests.serving.cluster import KEY, Cluster
from tests.serving.restricted import refusals
from tests.serving.schema import complaints

SECRETS = (KEY, "hf_secretToken", "aGZfc2VjcmV0VG9rZW4")
OWNER = Owner("quickstart", "chat", "28e53212")


def broken(cluster: Cluster, kind: str, plan: Plan) -> list[str]:
    """Return the rules that *plan*, made from what *cluster* shows now, breaks."""
    text = json.dumps([plan.status, plan.apply, [str(ref) for ref in plan.delete]]) + repr(plan.events)
    out = [f"a secret is told: {secret}" for secret in SECRETS if secret in text]
    out += complaints(kind, "status", plan.status) if plan.status is not None else []
    for child in plan.apply:
        out += _child(child)
    if kind == "InferenceService" and plan.status is not None:
        out += _records(plan.status)
        out += _history(plan.status)
        out += _admission(cluster, plan)
        out += _traffic(cluster, plan)
    return out


def _child(child: Manifest) -> list[str]:
    meta, name = child["metadata"], f"{child['kind']} {child['metadata']['name']}"
    out = [] if meta["labels"].get(names.MANAGED_BY) == names.MANAGED_BY_VALUE else [f"{name}: is not marked"]
    out += [f"{name}: has too long a name"] if len(meta["name"]) > 63 else []
    values = (*meta["labels"].values(), *meta["labels"])
    out += [f"{name}: label {value}" for value in values if len(value.rpartition("/")[2]) > 63]
    if child["kind"] not in ("Deployment", "Job"):
        return out
    pod = child["spec"]["template"]["spec"]
    out += [f"{name}: {line}" for line in refusals(pod)]
    if pod.get("automountServiceAccountToken") is not False or pod.get("enableServiceLinks") is not False:
        out.append(f"{name}: has an API token or service links")
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        if container["securityContext"].get("readOnlyRootFilesystem") is not True:
            out.append(f"{name}: {container['name']} may write its root file system")
        if any("valueFrom" in item for item in container.get("env", ())):
            out.append(f"{name}: {container['name']} has a variable from elsewhere")
    return out


def _records(status: Mapping[str, Any]) -> list[str]:
    """A revision that is read back from its record is the same, whoever wrote JSON in between."""
    out = []
    for record in (status.get("placement") or {}).get("revisions") or ():
        read = revisions.from_status(json.loads(json.dumps(record)), OWNER)
        if (
            revisions.to_status(read) != record
            or revisions.from_status(revisions.to_status(read), OWNER) != read
        ):
            out.append(f"record {record['hash']}: is not the same when read back")
    return out


def _history(status: Mapping[str, Any]) -> list[str]:
    """The chain holds, and what is kept of it is bounded."""
    kept = status.get("history") or ()
    wrong = audit.broken_at(kept, status.get("audit") or {})
    out = [] if wrong is None else [f"history: entry {wrong} does not follow"]
    size = len(json.dumps(kept, separators=(",", ":")))
    return out + ([f"history: {len(kept)} entries, {size} bytes"] if len(kept) > 20 or size > 20000 else [])


def _admission(cluster: Cluster, plan: Plan) -> list[str]:
    """Nothing starts that may not run: only an admitted version gets a Deployment that was not there."""
    assert plan.status is not None
    conditions = {c["type"]: c for c in plan.status["conditions"]}
    fresh = [
        child["metadata"]["name"]
        for child in plan.apply
        if child["kind"] == "Deployment"
        and cluster.store.get("Deployment", child["metadata"]["namespace"], child["metadata"]["name"]) is None
    ]
    candidate = (plan.status.get("candidate") or {}).get("hash", "none")
    wrong = [name for name in fresh if not name.endswith(candidate)]
    admitted, placed = conditions["ModelAdmitted"]["status"], conditions["Placed"]["status"]
    if fresh and (admitted, placed) != ("True", "True"):
        wrong = fresh
    return [f"{name}: starts, admitted {admitted}, placed {placed}" for name in wrong]


def _traffic(cluster: Cluster, plan: Plan) -> list[str]:
    """Requests go to stable, or to ready pods, and always to Services that exist."""
    assert plan.status is not None
    routes = [child for child in plan.apply if child["kind"] == "HTTPRoute"]
    services = {
        child["metadata"]["name"]
        for child in (*plan.apply, *cluster.of("Service"))
        if child["kind"] == "Service"
    }
    services -= {ref.name for ref in plan.delete if ref.kind == "Service"}
    out = [
        f"{ref}: goes, though a route sends to it"
        for ref in plan.delete
        if ref.kind != "HTTPRoute" and _is_routed(cluster, str(ref.name))
    ]
    for route, rule in [(one, rule) for one in routes for rule in one["spec"]["rules"]]:
        backends = rule["backendRefs"]
        stable = plan.status["stable"]["hash"]
        if sum(backend["weight"] for backend in backends) != 100:
            out.append(f"{route['metadata']['name']}: weights {backends}")
        out += [
            f"{b['name']}: gets requests without a Service" for b in backends if b["name"] not in services
        ]
        out += [
            f"{b['name']}: gets requests without a ready pod"
            for b in backends
            if b["weight"] and not b["name"].endswith(stable) and not _has_ready_pod(cluster, b["name"])
        ]
    return out


def _is_routed(cluster: Cluster, name: str) -> bool:
    """Return whether the route, or an older one that the gateway may still follow, names the Service."""
    for route in cluster.of("HTTPRoute"):
        rules = route["spec"]["rules"]
        if names.MANAGED_BY not in (route["metadata"].get("labels") or {}):
            if _is_named_by_a_user(cluster, rules, name):
                return True
            continue
        named = [b["name"] for rule in rules for b in rule["backendRefs"]]
        named += [f["requestMirror"]["backendRef"]["name"] for r in rules for f in r.get("filters", ())]
        if names.REVISION not in route["metadata"]["labels"] and name in named:
            return True
        for parent in (route.get("status") or {}).get("parents", ()):
            if any(c["observedGeneration"] < route["metadata"]["generation"] for c in parent["conditions"]):
                return True
    return False


def _is_named_by_a_user(cluster: Cluster, rules: list[Manifest], name: str) -> bool:
    """Return whether a user's route names the Service, or one whose selector is the revision's.

    It names the Services of the roles alone, in every version of it: an older answer changes nothing.
    """
    named = {backend["name"] for rule in rules for backend in rule["backendRefs"]}
    services = [s for s in cluster.of("Service") if s["metadata"]["name"] in named]
    selected = {s["spec"]["selector"].get(names.REVISION, "") for s in services}
    return name in named or name.rpartition("-")[2] in selected


def _has_ready_pod(cluster: Cluster, name: str) -> bool:
    return any(
        pod["metadata"]["name"].startswith(f"{name}-")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])
        for pod in cluster.of("Pod")
    )
