"""Which change wakes which root."""

from typing import Any

import pytest

from modelops.api import names
from modelops.controllers.store import Key
from tests.serving.cluster import Cluster, merged
from tests.serving.situations import (
    DIGESTS,
    NAMESPACE,
    approval,
    artifact,
    model,
    model_node,
    namespace,
    node,
    ours,
    policy,
    service,
    version,
)

DEFAULT = {"labels": {"modelops.dev/default-rollout-policy": "true"}}
SERVICE = Key("InferenceService", NAMESPACE, "chat")
BY_ALIAS = Key("InferenceService", NAMESPACE, "by-alias")
WAITS = Key("InferenceService", NAMESPACE, "waits")
VERSION = Key("ModelVersion", NAMESPACE, "chat-1")
OTHER = Key("ModelVersion", NAMESPACE, "chat-2")
MODEL = Key("Model", NAMESPACE, "chat")
POLICY = Key("RolloutPolicy", NAMESPACE, "quickstart")
CHILD = {**names.managed_labels(), names.SERVICE: "chat", names.REVISION: "aa"}


def meta(name: str, labels: dict[str, str], space: str = NAMESPACE) -> dict[str, Any]:
    return {"name": name, "labels": labels, **({"namespace": space} if space else {})}


def placed(node: str = "node-a") -> dict[str, Any]:
    """Return the status of a service that serves chat-1, as far as others look at it."""
    record = {"hash": "aa", "version": "chat-1", "digest": DIGESTS["chat-1"], "placement": {"node": node}}
    return {
        "stable": {"version": "chat-1", "hash": "aa"},
        "placement": {"revisions": [record]},
        "conditions": [{"type": "Placed", "status": "True"}],
    }


@pytest.fixture
def cluster() -> Cluster:
    """Return a cluster with one service of each kind of reference, and nothing to do."""
    cluster = Cluster()
    pinned = {**version(), "status": {"artifactDigest": DIGESTS["chat-1"]}}
    served = {**service(), "status": placed()}
    by_alias = service("by-alias", model={"name": "chat", "alias": "champion"})
    by_alias["status"] = {"conditions": [{"type": "Placed", "status": "True"}]}
    del by_alias["spec"]["rolloutPolicyRef"]
    waits = service("waits", "chat-2")
    cluster.put(namespace(), model(), policy(), pinned, version("chat-2"), served, by_alias, waits)
    cluster.keys.clear()
    return cluster


def pod(**labels: str) -> dict[str, Any]:
    gpu = {"limits": {"nvidia.com/gpu": "1"}}
    return {
        "kind": "Pod",
        "metadata": meta("p", {**names.managed_labels(), **labels}),
        "spec": {"nodeName": "node-a", "containers": [{"name": "engine", "resources": gpu}]},
        "status": {"phase": "Running"},
    }


@pytest.mark.parametrize(
    ("change", "woken"),
    [
        pytest.param(
            model(), {MODEL, VERSION, OTHER, SERVICE, BY_ALIAS, WAITS}, id="a model: all that is its"
        ),
        pytest.param(version(), {VERSION, MODEL, SERVICE, BY_ALIAS}, id="a version: its model and services"),
        pytest.param(
            version("chat-2"),
            {OTHER, MODEL, WAITS, BY_ALIAS},
            id="another version: who names it, and who follows the model",
        ),
        pytest.param(
            approval(version()),
            {Key("ModelApproval", NAMESPACE, "chat-1-approve-approver"), VERSION, SERVICE},
            id="an approval: its version and who runs it",
        ),
        pytest.param(
            policy(), {POLICY, SERVICE, WAITS, BY_ALIAS}, id="a policy: who names it, and who names none"
        ),
        pytest.param(
            policy("default", **DEFAULT),
            {Key("RolloutPolicy", NAMESPACE, "default"), BY_ALIAS},
            id="a default policy: who names none",
        ),
        pytest.param(
            {**service(), "status": placed("node-b")},
            {SERVICE, VERSION, POLICY},
            id="a service that goes elsewhere: its versions and its policy, which count it",
        ),
        pytest.param(
            namespace("dev"),
            {VERSION, OTHER, SERVICE, BY_ALIAS, WAITS},
            id="an environment: all that runs in it",
        ),
        pytest.param(node("node-a", "NVIDIA-L4", 23034, 2), {WAITS}, id="a node: who waits for a place"),
        pytest.param(pod(), {WAITS}, id="a pod that takes a GPU: who waits for one"),
        pytest.param(
            pod(**{names.SERVICE: "chat", names.REVISION: "aa"}),
            {SERVICE, WAITS},
            id="a pod of a service: the service too",
        ),
        pytest.param(
            {
                **pod(**{"batch.kubernetes.io/job-name": "resolve-chat-1-aa", names.VERSION_LABEL: "chat-1"}),
                "spec": {"containers": []},
                "status": {"phase": "Pending"},
            },
            {VERSION},
            id="a pod of a resolve Job: the version",
        ),
        pytest.param(
            {"kind": "Job", "metadata": meta("j", {names.VERSION_LABEL: "chat-1"})},
            {VERSION},
            id="a resolve Job: the version",
        ),
        pytest.param(
            model_node("node-a", artifact()),
            {VERSION, SERVICE},
            id="a node's report: the versions in its store",
        ),
        pytest.param(
            {**model_node("node-a"), "status": {"gpus": [{"index": 0, "healthy": True}]}},
            {WAITS},
            id="a node's report about its GPUs: who waits for a place",
        ),
        *(
            pytest.param(
                {"kind": kind, "metadata": meta("chat-aa", CHILD)}, {SERVICE}, id=f"a {kind}: its service"
            )
            for kind in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy")
        ),
        pytest.param(
            {"kind": "HTTPRoute", "metadata": meta("chat", CHILD), "spec": {}},
            {SERVICE},
            id="a route: its service",
        ),
        pytest.param(
            {
                "kind": "PersistentVolume",
                "metadata": meta("v", {names.DIGEST: names.digest_label(DIGESTS["chat-1"])}, ""),
                "spec": {"claimRef": {"namespace": NAMESPACE, "name": "model-1a"}},
            },
            {SERVICE},
            id="a volume: who mounts it",
        ),
        pytest.param(
            {
                "kind": "PersistentVolumeClaim",
                "metadata": meta("c", {names.DIGEST: names.digest_label(DIGESTS["chat-1"])}),
            },
            {SERVICE},
            id="a claim: who mounts it",
        ),
        pytest.param(
            {**model(), "metadata": {"name": "chat", "namespace": "elsewhere"}},
            {Key("Model", "elsewhere", "chat")},
            id="one of that name in another namespace: nobody else",
        ),
    ],
)
def test_a_change_wakes_whom_it_concerns(cluster, change, woken):
    cluster.put(merged(change, {"metadata": {"labels": {"changed": "yes"}}}))
    assert set(cluster.keys) == woken
    cluster.keys.clear()
    found = change["metadata"]
    cluster.remove(change["kind"], found.get("namespace") or "", found["name"])
    assert set(cluster.keys) == woken


def test_a_service_wakes_nobody_else_while_it_shows_others_the_same(cluster):
    cluster.edit(*SERVICE, {"status": {"pods": "1/1"}, "metadata": {"labels": {"team": "a"}}})
    assert set(cluster.keys) == {SERVICE}


def test_an_annotation_that_no_plan_reads_wakes_nobody(cluster):
    cluster.edit(*SERVICE, {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "x"}}})
    assert set(cluster.keys) == set()
    assert cluster.store.get(*SERVICE).resource_version == cluster.server.version


def test_a_heartbeat_of_a_node_wakes_nobody(cluster):
    cluster.put(node("node-a", "NVIDIA-L4", 23034, 2))
    cluster.keys.clear()
    beat = {"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "now"}]}}
    cluster.edit("Node", "", "node-a", beat)
    assert set(cluster.keys) == set()
    cluster.edit("Node", "", "node-a", {"spec": {"unschedulable": True}})
    assert set(cluster.keys) == {WAITS}


def test_a_reference_that_moves_wakes_the_old_and_the_new(cluster):
    cluster.put(policy("other"))
    cluster.keys.clear()
    cluster.edit(*SERVICE, {"spec": {"model": {"version": "chat-2"}, "rolloutPolicyRef": {"name": "other"}}})
    assert {VERSION, OTHER, POLICY, Key("RolloutPolicy", NAMESPACE, "other")} <= set(cluster.keys)


def test_a_service_of_a_version_that_is_not_there_is_woken_when_it_comes(cluster):
    cluster.put(service("early", "chat-9"))
    cluster.keys.clear()
    cluster.put(version("chat-9"))
    assert Key("InferenceService", NAMESPACE, "early") in cluster.keys


def test_nothing_is_woken_by_an_object_that_names_nobody(cluster):
    cluster.put(ours("ModelVersion", "lone", {"modelRef": "none"}))
    assert set(cluster.keys) == {Key("ModelVersion", NAMESPACE, "lone"), Key("Model", NAMESPACE, "none")}
