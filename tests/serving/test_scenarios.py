"""Scenarios that need the whole plan of a service: its objects, its conditions, and writes that fail."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from modelops.controllers.store import Key
from modelops.plan import Manifest
from modelops.rollouts.state import Phase
from tests.serving.cluster import Traffic
from tests.serving.situations import (
    NAMESPACE,
    SERVICE,
    WORSE,
    node,
    ours,
    policy,
    ready_to_start,
    service,
)
from tests.serving.test_story import Story, prepared, serving
from tests.serving.test_strategies import condition, counts, route, story


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"canary": {"steps": [50, 20]}}, "spec.canary.steps", id="steps that fall"),
        pytest.param({"canary": {"steps": [5, 120]}}, "spec.canary.steps", id="more than all"),
        pytest.param({"restartLimit": -1}, "spec.restartLimit", id="a negative limit"),
    ],
)
def test_s4_a_policy_that_slipped_past_admission_is_told_and_harms_no_other_service(
    spec: Manifest, field: str
) -> None:
    told = prepared(serving(), "chat-2")
    told.cluster.put(node("node-c", "Tesla-T4", 15360, 2))
    told.cluster.put(service("other"), ours("RolloutPolicy", "broken", spec))
    told.cluster.edit("InferenceService", NAMESPACE, "other", _named("broken")).settle()
    told.run(30)
    told.cluster.edit("InferenceService", NAMESPACE, "other", {"spec": {"model": {"version": "chat-2"}}})

    told.want("chat-2").until(Phase.BAKING)

    found = told.cluster.get("RolloutPolicy", NAMESPACE, "broken")["status"]["conditions"]
    (ready,) = [c for c in found if c["type"] == "Ready"]
    assert (ready["status"], field in ready["message"]) == ("False", True)
    assert told.cluster.rollout("other").stable.version == "chat-1"


def _named(policy_name: str) -> Manifest:
    return {"spec": {"rolloutPolicyRef": {"name": policy_name}}}


@pytest.mark.parametrize(
    ("canary", "steps"),
    [
        pytest.param({"stepWeight": 40, "maxWeight": 50}, [40, 50], id="the last step is cut"),
        pytest.param({"stepWeight": 99, "maxWeight": 99}, [99], id="one step to the brim"),
        pytest.param({"stepWeight": 33}, [33, 50], id="a series that would overflow"),
    ],
)
def test_s7_the_last_step_is_clamped_and_the_run_ends(canary: dict[str, Any], steps: list[int]) -> None:
    told = story({"canary": {**canary, "minDwell": "30s"}}).want("chat-2").until(Phase.PROGRESSING)
    reached = {}
    while told.state.phase is Phase.PROGRESSING:
        reached[told.state.weight] = told.state.step
        told.run(1)

    assert list(reached) == steps
    told.until(Phase.STABLE)
    assert counts(told.cluster) == {"chat-2": 1}


def test_s9_a_candidate_that_no_node_has_room_for_is_not_on_the_route() -> None:
    """A backend whose Service is not there makes the whole route unresolved, whatever its weight."""
    told = story({})
    told.cluster.remove("Node", "", "node-a")

    told.want("chat-2").run(30)

    (rule,) = route(told.cluster)["spec"]["rules"]
    assert [b["name"] for b in rule["backendRefs"]] == [f"chat-{told.state.stable.hash}"]
    assert condition(told.cluster, "Placed") == ("False", "WaitingForCapacity")
    assert condition(told.cluster, "Ready") == ("True", "Serving")
    assert (told.state.phase, told.state.candidate.version) == (Phase.STARTING, "chat-2")


@pytest.mark.parametrize("verb", ["apply", "apply_status"])
def test_s13_a_409_on_every_first_write_is_read_again_and_nothing_gets_stuck(verb: str) -> None:
    """Somebody else writes the object between each look and the write that follows from it."""
    told = prepared(serving(), "chat-2")
    cluster, write = told.cluster, getattr(told.cluster.server, verb)
    met: set[tuple[Key, str]] = set()

    async def contested(manifest: Manifest) -> Manifest:
        meta = manifest["metadata"]
        key = Key(manifest["kind"], meta.get("namespace", ""), meta["name"])
        if key.kind in ("HTTPRoute", "InferenceService") and (key, str(cluster.now)) not in met:
            met.add((key, str(cluster.now)))
            touched = cluster.get(*key)
            touched["metadata"].setdefault("annotations", {})["touched"] = str(len(met))
            cluster.show(cluster.server.put(touched))
        return await write(manifest)

    setattr(cluster.server, verb, contested)
    told.want("chat-2").until(Phase.BAKING).until(Phase.STABLE).run(3)

    assert counts(cluster) == {"chat-2": 1}
    assert len(met) >= 4
    assert [w for w in told.cluster.told.events if w.reason == "Promoted"]


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_s19_other_labels_or_annotations_begin_no_rollout(field: str) -> None:
    told = serving()
    before, children = told.state, told.cluster.of("Deployment")

    told.cluster.edit(*SERVICE, {"metadata": {field: {"team": "search", "touched": "yes"}}}).settle()
    told.run(30)

    assert told.state == before
    assert told.cluster.of("Deployment") == children


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param({"extraArgs": ["--chat-template", "llama3"]}, id="another chat template"),
        pytest.param({"contextTokens": 1024}, id="another context"),
    ],
)
def test_s20_what_the_pods_read_is_in_the_spec_and_makes_a_new_revision(engine: Manifest) -> None:
    """No field reads a ConfigMap or a Secret into a pod yet, so nothing can change behind a revision."""
    told = serving()
    before = told.state.stable

    told.cluster.edit(*SERVICE, {"spec": {"engine": engine}}).settle()
    told.until(Phase.PROGRESSING)

    assert told.state.candidate.version == before.version
    assert told.state.candidate.hash != before.hash
    for deployment in told.cluster.of("Deployment"):
        containers = deployment["spec"]["template"]["spec"]["containers"]
        assert not any("valueFrom" in item for one in containers for item in one.get("env", ()))


# --- S68: what kubectl wait, kstatus and Argo CD read ------------------------------------------------

SERVES = {"Ready": "True", "Stalled": "False"}
MOVES = {**SERVES, "Reconciling": "True"}
WAITS = {**SERVES, "Reconciling": "False", "RolloutHealthy": "Unknown"}
TABLE: Mapping[Phase, tuple[dict[str, str], str, str]] = {
    Phase.STABLE: ({**SERVES, "Reconciling": "False", "RolloutHealthy": "True"}, "Current", "Healthy"),
    **dict.fromkeys(
        (
            Phase.STARTING,
            Phase.PROGRESSING,
            Phase.PROMOTING,
            Phase.BAKING,
            Phase.REVERTING,
            Phase.SUPERSEDING,
        ),
        ({**MOVES, "RolloutHealthy": "True"}, "InProgress", "Progressing"),
    ),
    Phase.ROLLING_BACK: ({**MOVES, "RolloutHealthy": "False"}, "InProgress", "Progressing"),
    Phase.AWAITING_APPROVAL: (WAITS, "Current", "Suspended"),
    Phase.PAUSED: (WAITS, "Current", "Suspended"),
    Phase.ROLLED_BACK: (
        {"Ready": "True", "Reconciling": "False", "Stalled": "True", "RolloutHealthy": "False"},
        "Failed",
        "Degraded",
    ),
}
"""By phase: the conditions, kstatus, and the health that Argo CD shows.  Source: research/rollouts.md 4."""


def conditions(obj: Manifest) -> dict[str, str]:
    return {c["type"]: c["status"] for c in obj["status"]["conditions"]}


def kstatus(obj: Manifest) -> str:
    """Return what kstatus computes.  Source: cli-utils, pkg/kstatus/status/generic.go and status.go."""
    found = conditions(obj)
    if obj["status"]["observedGeneration"] != obj["metadata"]["generation"]:
        return "InProgress"
    if found["Reconciling"] == "True":
        return "InProgress"
    if found["Stalled"] == "True":
        return "Failed"
    return "Current" if found["Ready"] == "True" else "InProgress"


def health(obj: Manifest) -> str:
    """Return Argo CD's health by the order of the note: generation, Stalled, phase, Reconciling, Ready."""
    found = conditions(obj)
    if obj["status"]["observedGeneration"] < obj["metadata"]["generation"]:
        return "Progressing"
    if found["Stalled"] == "True":
        return "Degraded"
    if obj["status"]["rollout"]["phase"] in ("AwaitingApproval", "Paused"):
        return "Suspended"
    if found["Reconciling"] == "True":
        return "Progressing"
    return "Healthy" if found["Ready"] == "True" else "Degraded"


def good(told: Story) -> None:
    told.want("chat-2").until(Phase.BAKING).until(Phase.STABLE)


def bad(told: Story) -> None:
    told.cluster.traffic = Traffic(canary=WORSE)
    told.want("chat-2").until(Phase.ROLLED_BACK).run(3)


def revert(told: Story) -> None:
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    told.want("chat-1").until(Phase.STABLE)


def supersede(told: Story) -> None:
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    told.want("chat-3").until(Phase.PROGRESSING)


def wait_for_people(told: Story) -> None:
    told.cluster.put({**policy(), "spec": {**policy()["spec"], "approval": {"beforeStart": True}}}).settle()
    told.want("chat-2").until(Phase.AWAITING_APPROVAL).run(3)


def stand_still(told: Story) -> None:
    settings = [{"weight": 20, "pause": "Manual"}]
    canary = {**policy()["spec"]["canary"], "stepSettings": settings}
    told.cluster.put({**policy(), "spec": {**policy()["spec"], "canary": canary}}).settle()
    told.want("chat-2").until(Phase.PAUSED).run(3)


WAYS: list[tuple[Callable[[Story], None], set[Phase]]] = [
    (good, {Phase.STABLE, Phase.STARTING, Phase.PROGRESSING, Phase.PROMOTING, Phase.BAKING}),
    (bad, {Phase.ROLLING_BACK, Phase.ROLLED_BACK}),
    (revert, {Phase.REVERTING}),
    (supersede, {Phase.SUPERSEDING}),
    (wait_for_people, {Phase.AWAITING_APPROVAL}),
    (stand_still, {Phase.PAUSED}),
]


@pytest.mark.parametrize(("way", "phases"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_s68_each_phase_reads_as_tools_expect_it(way: Callable[[Story], None], phases: set[Phase]) -> None:
    told = prepared(serving(), "chat-2", "chat-3")
    met: dict[Phase, list[tuple[dict[str, str], str, str]]] = {}

    def look(cluster: Any, kind: str, plan: Any) -> list[str]:
        if kind == "InferenceService" and plan.status is not None:
            obj = {**cluster.get(*SERVICE), "status": plan.status}
            phase = Phase(plan.status["rollout"]["phase"])
            met.setdefault(phase, []).append((conditions(obj), kstatus(obj), health(obj)))
        return []

    told.cluster.checks.append(look)
    way(told)

    assert phases <= set(met)
    for phase in phases:
        wanted, current, shown = TABLE[phase]
        for found, *rest in met[phase]:
            assert {name: found[name] for name in wanted} == wanted, phase
            assert rest == [current, shown], phase


def test_s68_a_first_version_past_its_deadline_is_degraded() -> None:
    cluster = ready_to_start().put(service()).settle()
    cluster.until("chat", Phase.STARTING)
    for _ in range(1900):
        cluster.start_pods(ready=False)
        cluster.run(1, pods=False)
        if condition(cluster, "Stalled") == ("True", "DeadlineExceeded"):
            break
    obj = cluster.get(*SERVICE)

    assert conditions(obj) == {**conditions(obj), "Ready": "False", "Reconciling": "False", "Stalled": "True"}
    assert (kstatus(obj), health(obj)) == ("Failed", "Degraded")
