"""The ways of a new version other than plain steps, through the whole plan, second by second."""

from typing import Any

import pytest

from modelops.plan import Manifest
from modelops.rollouts.state import Phase
from tests.serving.cluster import SETTINGS, Cluster, Traffic
from tests.serving.situations import (
    NAMESPACE,
    SERVICE,
    WORSE,
    approved,
    begun,
    ours,
    pinned,
    policy,
    proven,
    service,
)
from tests.serving.test_story import NO_GATEWAY, Story

CANARY = {"steps": [20, 50], "minDwell": "30s"}
FEATURES = ("HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror", "HTTPRouteSessionPersistenceCookie")


def story(
    spec: dict[str, Any],
    *,
    settings: Any = SETTINGS,
    replicas: int = 1,
    features: Any = FEATURES,
    before: tuple[Manifest, ...] = (),
) -> Story:
    """Return a service that serves chat-1 under a policy with *spec*, and chat-2 approved.

    The objects *before* are there first.
    """
    cluster = begun(settings=settings)
    cluster.put(gateway(), gateway_class(*features), *before)
    usual = {
        k: v for k, v in policy()["spec"].items() if k != "canary" or spec.get("strategy") != "BlueGreen"
    }
    cluster.put({**policy(), "spec": {**usual, **spec}}).settle()
    approved(proven(pinned(cluster), "chat-1"))
    cluster.put(service(scaling={"minReplicas": replicas}))
    told = Story(cluster)
    told.until(Phase.STARTING).until(Phase.STABLE).run(60)
    approved(proven(pinned(cluster, "chat-2"), "chat-1", "chat-2"), "chat-2")
    return told


def gateway() -> Manifest:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "gateways"},
        "spec": {"gatewayClassName": "example"},
    }


def gateway_class(*features: str) -> Manifest:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "example"},
        "status": {"supportedFeatures": [{"name": feature} for feature in features]},
    }


def route(cluster: Cluster, *, preview: bool = False) -> Manifest | None:
    found = [
        r for r in cluster.of("HTTPRoute") if ("modelops.dev/revision" in r["metadata"]["labels"]) is preview
    ]
    return found[0] if found else None


def condition(cluster: Cluster, type_: str) -> tuple[str, str]:
    found = next(c for c in cluster.get(*SERVICE)["status"]["conditions"] if c["type"] == type_)
    return found["status"], found["reason"]


def weights(rule: Manifest) -> list[int]:
    return [backend["weight"] for backend in rule["backendRefs"]]


def counts(cluster: Cluster) -> dict[str, int]:
    return {
        d["metadata"]["labels"]["modelops.dev/version"]: d["spec"]["replicas"]
        for d in cluster.of("Deployment")
    }


# --- blue-green --------------------------------------------------------------------------------------

BLUE_GREEN = {"strategy": "BlueGreen", "blueGreen": {"autoPromote": False, "bake": "20s"}}


def test_s57_a_preview_has_a_host_of_its_own_and_no_request_of_users():
    told = story(BLUE_GREEN, replicas=2).want("chat-2").until(Phase.AWAITING_APPROVAL)
    cluster = told.cluster
    whole, shown = route(cluster), route(cluster, preview=True)
    assert weights(whole["spec"]["rules"][0]) == [100, 0]
    assert shown["spec"]["hostnames"] == ["preview-chat.quickstart.models.example.com"]
    assert weights(shown["spec"]["rules"][0]) == [100]
    assert counts(cluster) == {"chat-1": 2, "chat-2": 2}


def test_s57_a_person_switches_and_the_preview_goes():
    told = story(BLUE_GREEN).want("chat-2").until(Phase.AWAITING_APPROVAL)
    promote(told)
    told.until(Phase.BAKING)
    assert told.state.stable.version == "chat-2"
    told.until(Phase.STABLE).run(3)
    assert counts(told.cluster) == {"chat-2": 1}
    assert route(told.cluster, preview=True) is None


def test_s59_pods_that_die_while_it_bakes_switch_back_to_the_warm_ones():
    told = story(BLUE_GREEN).want("chat-2").until(Phase.AWAITING_APPROVAL)
    promote(told)
    told.until(Phase.BAKING).run(3)
    bad = told.state.stable
    told.cluster.start_pods(ready=False, only=bad.hash).settle()
    assert told.state.stable.version == "chat-1"
    for _ in range(30):
        told.cluster.run(1, pods=False)
    assert told.state.phase is Phase.ROLLED_BACK
    assert [mark.hash for mark in told.state.rejected] == [bad.hash]


def promote(told: Story) -> None:
    action = {"action": "Promote", "runId": told.state.run_id, "wait": told.state.wait}
    told.cluster.edit(*SERVICE, {"spec": {"rollout": action}}).settle()


# --- shadow ------------------------------------------------------------------------------------------

SHADOW = {"strategy": "Shadow", "shadow": {"percent": 25, "duration": "40s"}}


def test_s61_copies_come_first_and_then_the_steps():
    told = story(SHADOW).want("chat-2").until(Phase.PROGRESSING).run(3)
    (rule,) = route(told.cluster)["spec"]["rules"]
    (mirror,) = rule["filters"]
    assert mirror["requestMirror"]["percent"] == 25
    assert mirror["requestMirror"]["backendRef"]["name"].endswith(told.state.candidate.hash)
    assert weights(rule) == [100, 0]
    assert told.cluster.get(*SERVICE)["status"]["rollout"]["traffic"]["mirror"] == 25
    while not told.state.weight:
        told.run(1)
    assert "filters" not in route(told.cluster)["spec"]["rules"][0]
    told.until(Phase.BAKING)


def test_s61_harm_in_the_copies_ends_them_before_the_pods_go():
    told = story(SHADOW).want("chat-2").until(Phase.PROGRESSING).run(3)
    told.cluster.traffic = Traffic(canary=WORSE)
    told.until(Phase.ROLLED_BACK).run(3)
    assert "filters" not in route(told.cluster)["spec"]["rules"][0]
    assert counts(told.cluster) == {"chat-1": 1}


def test_s61_a_gateway_that_cannot_copy_is_told_and_nothing_starts():
    told = story(SHADOW, features=["HTTPRouteRequestMirror"]).want("chat-2").run(60)
    assert told.state.phase is Phase.AWAITING_APPROVAL
    assert condition(told.cluster, "RolloutHealthy") == ("Unknown", "Unsupported")
    assert counts(told.cluster) == {"chat-1": 1}
    told.cluster.put(gateway_class(*FEATURES))
    told.run(2)
    assert told.state.phase is Phase.STARTING


def test_s61_without_a_gateway_nothing_can_be_copied():
    told = story(SHADOW, settings=NO_GATEWAY).want("chat-2").run(60)
    assert condition(told.cluster, "RolloutHealthy") == ("Unknown", "Unsupported")


# --- matched requests and pinned clients -------------------------------------------------------------


def test_s62_matched_requests_have_a_rule_that_goes_with_an_abort():
    match = [
        {"header": {"name": "x-beta", "value": "yes"}},
        {"cookie": {"name": "beta", "value": "1.0"}},
    ]
    told = (
        story({"canary": {"match": match, "minDwell": "30s"}}).want("chat-2").until(Phase.PROGRESSING).run(3)
    )
    chosen, others = route(told.cluster)["spec"]["rules"]
    assert [m["headers"][0] for m in chosen["matches"]] == [
        {"type": "Exact", "name": "x-beta", "value": "yes"},
        {"type": "RegularExpression", "name": "Cookie", "value": r"(.*; *)?beta=1\.0(;.*)?"},
    ]
    assert (weights(chosen), weights(others)) == ([100], [100, 0])
    action = {"action": "Abort", "runId": told.state.run_id}
    told.cluster.edit(*SERVICE, {"spec": {"rollout": action}}).settle()
    told.until(Phase.ROLLED_BACK).run(3)
    assert len(route(told.cluster)["spec"]["rules"]) == 1
    assert counts(told.cluster) == {"chat-1": 1}


def test_s63_clients_are_pinned_by_a_cookie_that_dies_with_the_run():
    told = story({"canary": {**CANARY, "sessionAffinity": {"cookie": "chat", "maxAge": "30m"}}})
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    (rule,) = route(told.cluster)["spec"]["rules"]
    assert rule["sessionPersistence"] == {
        "sessionName": f"chat-{told.state.run_id}",
        "type": "Cookie",
        "absoluteTimeout": "1800s",
        "cookieConfig": {"lifetimeType": "Permanent"},
    }
    told.until(Phase.BAKING).run(2)
    assert "sessionPersistence" not in route(told.cluster)["spec"]["rules"][0]


@pytest.mark.parametrize("features", [(), FEATURES[:2]], ids=["a class that lists nothing", "without it"])
def test_s63_a_gateway_that_does_not_list_persistence_is_told(features):
    told = story({"canary": {**CANARY, "sessionAffinity": {}}}, features=features).want("chat-2").run(30)
    assert condition(told.cluster, "RolloutHealthy") == ("Unknown", "Unsupported")


# --- without a gateway -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replicas", "pods", "effective"),
    [(10, {"chat-1": 9, "chat-2": 1}, 10.0), (3, {"chat-1": 3, "chat-2": 1}, 25.0)],
    ids=["ten pods", "three pods"],
)
def test_s64_numbers_of_pods_are_the_shares_without_a_gateway(replicas, pods, effective):
    told = story({"canary": {"steps": [10], "minDwell": "30s"}}, settings=NO_GATEWAY, replicas=replicas)
    apex = told.cluster.get("Service", NAMESPACE, "chat")
    assert apex["spec"]["selector"]["modelops.dev/revision"] == told.state.stable.hash
    told.want("chat-2").until(Phase.PROGRESSING).run(5)
    assert counts(told.cluster) == pods
    apex = told.cluster.get("Service", NAMESPACE, "chat")
    assert apex["spec"]["selector"] == {"modelops.dev/service": "chat"}
    assert told.cluster.get(*SERVICE)["status"]["rollout"]["traffic"]["effective"] == effective
    told.until(Phase.BAKING).until(Phase.STABLE).run(3)
    assert counts(told.cluster) == {"chat-2": replicas}


def test_s64_harm_without_a_gateway_brings_all_of_stable_back_before_the_candidate_goes():
    told = story({"canary": {"steps": [40], "minDwell": "30s"}}, settings=NO_GATEWAY, replicas=5)
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    assert counts(told.cluster) == {"chat-1": 3, "chat-2": 2}
    told.pods.clear()  # two of stable's went, and come back as others
    told.cluster.traffic = Traffic(canary=WORSE)
    told.until(Phase.ROLLED_BACK).run(3)
    assert counts(told.cluster) == {"chat-1": 5}
    apex = told.cluster.get("Service", NAMESPACE, "chat")
    assert apex["spec"]["selector"]["modelops.dev/revision"] == told.state.stable.hash


def test_a_service_that_gets_a_gateway_gives_its_own_service_up():
    told = story({}, settings=NO_GATEWAY)
    told.cluster.restart(SETTINGS)
    told.cluster.resync().run(3)
    assert "chat" not in [s["metadata"]["name"] for s in told.cluster.of("Service")]
    assert route(told.cluster) is not None


# --- no spare GPU ------------------------------------------------------------------------------------


def test_on_one_gpu_the_old_version_ends_first_and_the_downtime_is_told():
    told = story({"canary": {"capacity": "Recreate"}})
    taken = told.cluster.of("Pod")[0]["spec"]["nodeName"]
    assert taken == "node-b", "the one with one GPU"
    told.cluster.remove("Node", "", "node-a")
    told.want("chat-2").until(Phase.BAKING)
    assert "Downtime" in [event.reason for event in told.cluster.told.events]
    told.until(Phase.STABLE).run(3)
    assert counts(told.cluster) == {"chat-2": 1}
    assert condition(told.cluster, "Ready") == ("True", "Serving")


def test_pods_without_room_hold_the_weight_and_are_told():
    told = story({}, replicas=4).want("chat-2").until(Phase.PROGRESSING).run(3)
    for _ in range(60):
        told.cluster.start_pods(only="890", unschedulable="0/2 nodes: insufficient nvidia.com/gpu")
        told.cluster.run(1, pods=False)
    assert told.state.rejected == ()


# --- eras and pauses ---------------------------------------------------------------------------------


def test_s17_edited_margins_begin_an_era_and_restart_nothing():
    told = story({}).want("chat-2").until(Phase.PROGRESSING).run(10)
    run, weight = told.state.run_id, told.state.weight
    edited = told.cluster.get("RolloutPolicy", NAMESPACE, "quickstart")
    edited["spec"]["analysis"] = {"window": "1m", "margins": {"latency": {"maxRegression": "20%"}}}
    told.cluster.put(edited).settle()
    told.run(5)
    first, second = told.state.eras
    assert (told.state.run_id, told.state.weight) == (run, weight)
    assert (first.settings["latency"]["maxRegression"], second.settings["latency"]["maxRegression"]) == (
        0.1,
        0.2,
    )
    assert second.settings["window"] == 30.0  # counts of this run are read by windows of this length
    assert told.cluster.get(*SERVICE)["status"]["rollout"]["windowSeconds"] == 30


def test_s3_a_policy_that_is_mended_lets_the_run_go_on_without_deletion():
    told = story({})
    broken_ = ours("RolloutPolicy", "quickstart", {"canary": {"steps": [50, 20]}})
    told.cluster.put(broken_).settle()
    told.want("chat-2").run(60)
    assert condition(told.cluster, "RolloutHealthy") == ("Unknown", "PolicyMalformed")
    told.cluster.put(policy()).settle()
    told.until(Phase.BAKING)


@pytest.mark.parametrize(
    ("canary", "told_as"),
    [(750, ("True", "Progressing")), (3000, ("Unknown", "TrafficSplitMismatch"))],
    ids=["as told", "half of all"],
)
def test_9_2_the_share_that_is_counted_is_told_and_a_wrong_one_is_named(canary, told_as):
    told = story({"canary": {"steps": [20, 50], "minDwell": "10m"}})
    told.cluster.traffic = Traffic(canary={"requests": canary, "errors": 1})
    told.want("chat-2").until(Phase.PROGRESSING).run(80)
    shares = told.cluster.get(*SERVICE)["status"]["rollout"]["traffic"]
    assert shares["measured"] == round(100 * canary / (canary + 3000), 1)
    assert condition(told.cluster, "RolloutHealthy") == told_as


# --- by fixed limits ---------------------------------------------------------------------------------


def test_s58_harm_in_the_preview_is_never_switched_to():
    told = story(BLUE_GREEN).want("chat-2").until(Phase.AWAITING_APPROVAL)
    told.cluster.traffic = Traffic(canary=WORSE)
    told.run(70)
    assert told.state.phase is Phase.ROLLED_BACK
    assert "limit 1%" in told.state.rejected[-1].reason
    assert told.state.stable.version == "chat-1"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({**BLUE_GREEN, "blueGreen": {"bake": "3m"}}, id="blue-green"),
        pytest.param({"canary": CANARY, "scaleDownDelay": "3m"}, id="canary"),
    ],
)
def test_s59_a_regression_in_the_bake_switches_back_while_the_old_pods_are_warm(spec):
    told = story(spec).want("chat-2").until(Phase.BAKING)
    told.cluster.traffic = Traffic(canary=WORSE)
    told.run(100)
    assert told.state.stable.version == "chat-1"
    assert told.until(Phase.ROLLED_BACK).state.rejected[-1].version == "chat-2"
    assert "limit" in told.state.rejected[-1].reason
    assert "switched back to chat-1" in told.state.message


def test_s59_a_good_version_is_held_to_limits_in_the_bake_and_stays():
    told = story({"canary": CANARY, "scaleDownDelay": "90s"}).want("chat-2").until(Phase.BAKING)
    before = told.cluster.get(*SERVICE)["status"]["rollout"]["analysis"]
    assert "stable" in before["metrics"][0]
    told.run(70)
    baking = told.cluster.get(*SERVICE)["status"]["rollout"]["analysis"]
    assert baking["metrics"][0]["limit"] == "1%"
    assert told.until(Phase.STABLE).state.stable.version == "chat-2"


def test_s62_matched_requests_are_promoted_by_limits_alone():
    match = [{"header": {"name": "x-beta", "value": "yes"}}]
    told = story({"canary": {"match": match, "minDwell": "30s"}}).want("chat-2").until(Phase.BAKING)
    (promoted,) = [e.message for e in told.cluster.told.events if e.reason == "Promoted"]
    assert "limit" in promoted
    assert " vs " not in promoted
