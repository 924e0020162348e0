"""What holds for every golden case: rules of one plan, and laws of planning again."""

import copy

import pytest
import yaml

from modelops.plan import Manifest
from modelops.serving.revisions import revision_hash
from tests.serving.cluster import SETTINGS, merged
from tests.serving.golden import CASES, cluster_of, plan_of
from tests.serving.restricted import refusals
from tests.serving.rules import broken
from tests.serving.schema import complaints

golden = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
UPGRADED = merged(
    SETTINGS,
    {
        "images": {
            "operator": "registry.example.com/modelops:2.0",
            "engineImages": {
                "LlamaCpp": "registry.example.com/llama:9",
                "vLLM": "registry.example.com/vllm:9",
            },
            "engineCommands": {"LlamaCpp": ["/bin/llama"]},
        },
        "imagePullPolicy": "Always",
        "delivery": {"store": "/data/store"},
    },
)
SERVICES = [case for case in CASES if "InferenceService" in (case / "given.yaml").read_text().split("\n")[1]]
services = pytest.mark.parametrize("case", SERVICES, ids=lambda case: case.name)


def deployments(plan) -> dict[str, Manifest]:
    found = plan.apply if plan else ()
    return {child["metadata"]["name"]: child for child in found if child["kind"] == "Deployment"}


@golden
def test_every_plan_keeps_the_rules(case):
    cluster, root = cluster_of(case)
    plan = plan_of(cluster, root)
    assert plan is None or broken(cluster, root.kind, plan) == []


@golden
def test_planning_again_from_what_a_plan_brings_about_writes_nothing(case):
    cluster, root = cluster_of(case)
    cluster.keys.add(root)
    cluster.settle()
    before, writes = plan_of(cluster, root), list(cluster.server.writes)
    cluster.look(root)
    assert cluster.server.writes == writes
    assert plan_of(cluster, root) == before
    cluster.resync()  # what an older release wrote about the other objects is brought up to date
    writes = list(cluster.server.writes)
    cluster.resync()
    assert cluster.server.writes == writes
    assert before is None or before.events == ()


@golden
def test_a_fresh_operator_plans_the_same_from_what_is_stored(case):
    cluster, root = cluster_of(case)
    plan = plan_of(cluster, root)
    again, _ = cluster_of(case)
    again.restart(
        yaml.safe_load((case / "given.yaml").read_text()).get("settings", SETTINGS), gate_is_green=False
    )
    again.measure()
    assert plan is None or plan_of(again, root) is not None
    if (
        root.kind == "InferenceService"
        and plan is not None
        and "refused" not in (case / "given.yaml").read_text()
    ):
        assert plan_of(again, root) == plan


@services
def test_an_upgrade_of_the_operator_changes_no_pod_that_is_there(case):
    cluster, root = cluster_of(case)
    upgraded, _ = cluster_of(case, UPGRADED)
    there = {deployment["metadata"]["name"] for deployment in cluster.of("Deployment")}
    before, after = deployments(plan_of(cluster, root)), deployments(plan_of(upgraded, root))
    assert {name: before[name] for name in there & set(before)} == {
        name: after[name] for name in there & set(after)
    }


EDITS = {
    "the engine": {"engine": {"name": "LlamaCpp", "contextTokens": 1024, "extraArgs": ["--temp", "0.1"]}},
    "the placement": {"placement": {"nodeSelector": {"disk": "fast"}}, "accelerator": {"count": 2}},
    "the pod template": {"podTemplate": {"labels": {"team": "other"}, "resources": {"limits": {"cpu": "2"}}}},
    "something that fits nowhere": {"accelerator": {"products": ["none-such"]}},
    "the model, to one that is not there": {"model": {"version": "chat-9"}},
}


@services
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edit_changes_no_pod_that_serves(case, edit):
    cluster, root = cluster_of(case)
    service = cluster.get(*root)
    stable = ((service.get("status") or {}).get("stable") or {}).get("hash")
    before = deployments(plan_of(cluster, root))
    cluster.edit(*root, {"spec": edit})
    after = deployments(plan_of(cluster, root))
    if stable is not None and before:
        name = next(name for name in before if name.endswith(stable))
        assert after[name]["spec"]["template"] == before[name]["spec"]["template"]


@pytest.mark.parametrize(
    ("edit", "is_new"),
    [
        pytest.param({"scaling": {"minReplicas": 3}}, False, id="more pods make no new revision"),
        pytest.param({"traffic": {"path": "/v1"}}, False, id="another path makes no new revision"),
        pytest.param(
            {"rolloutPolicyRef": {"name": "other"}}, False, id="another policy makes no new revision"
        ),
        pytest.param({"engine": {"name": "vLLM"}}, True, id="another engine makes a new revision"),
        pytest.param({"accelerator": {"count": 2}}, True, id="more GPUs make a new revision"),
        pytest.param({"podTemplate": {"labels": {"a": "b"}}}, True, id="other labels make a new revision"),
    ],
)
def test_what_makes_a_revision(edit, is_new):
    cluster, root = cluster_of(
        next(c for c in SERVICES if c.name == "a-step-of-20-percent-waits-for-its-dwell")
    )
    seen = cluster.roots[root.kind].gather(root, cluster.reading(root))
    cluster.edit(*root, {"spec": edit})
    edited = cluster.roots[root.kind].gather(root, cluster.reading(root))
    one, other = (revision_hash(s.service.spec, "chat-1", "sha256:1") for s in (seen, edited))
    assert (one != other) is is_new


# --- the checkers find what they look for -------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param({"hostNetwork": True}, "hostNetwork is set", id="the node's network"),
        pytest.param({"securityContext": {}}, "engine: may run as root", id="perhaps root"),
        pytest.param(
            {"volumes": [{"name": "m", "hostPath": {}}]}, "volume m: {'hostPath'}", id="a folder of the node"
        ),
    ],
)
def test_a_pod_that_is_not_restricted_is_found(change, line):
    cluster, root = cluster_of(
        next(c for c in SERVICES if c.name == "a-step-of-20-percent-waits-for-its-dwell")
    )
    deployment = next(iter(deployments(plan_of(cluster, root)).values()))
    assert line in refusals({**copy.deepcopy(deployment["spec"]["template"]["spec"]), **change})


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        ({"phase": "Nowhere"}, "status.phase: wanted one of"),
        ({"resolved": {"colour": "blue"}}, "status.resolved.colour: is unknown, the server drops it"),
        ({"artifactDigest": "1a"}, "status.artifactDigest: wanted ^sha256"),
        ({"usedByCount": "3"}, "status.usedByCount: wanted integer"),
    ],
)
def test_a_status_that_the_server_would_not_keep_is_found(status, complaint):
    assert any(line.startswith(complaint) for line in complaints("ModelVersion", "status", status))
