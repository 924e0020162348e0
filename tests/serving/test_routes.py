"""Routes of our own beside plain shares: gRPC, cookies that pin, and gateways that say little."""

import re
from typing import Any

import pytest

from modelops.plan import Manifest
from modelops.rollouts.state import Pause, Phase
from tests.serving.cluster import Cluster, Traffic, parents
from tests.serving.schema import complaints
from tests.serving.situations import NAMESPACE, SERVICE, WITH_RUNTIME, WORSE, holding, policy, service
from tests.serving.test_lent import web
from tests.serving.test_story import NO_GATEWAY, Story
from tests.serving.test_strategies import CANARY, condition, gateway, gateway_class, route, story, weights

GRPC = ("GRPCRoute",)
HALF = {"requests": 2990, "errors": 6}
"""As many requests as stable has, whatever the weight."""
SLOW = {**CANARY, "minDwell": "90s"}
"""Long enough for a window that began in the step."""
CUSTOM = {"name": "Custom", "image": "registry.example.com/own:3"}


def grpc_route(cluster: Cluster) -> Manifest | None:
    found = cluster.of("GRPCRoute")
    return found[0] if found else None


def events(told: Story) -> list[str]:
    return [event.reason for event in told.cluster.told.events]


# --- gateways that never say whether references resolve ----------------------------------------------


def terse(told: Story, seconds: int) -> Story:
    """Let time pass with a gateway that writes Accepted alone."""
    for _ in range(seconds):
        told.cluster.server.now = told.cluster.now
        told.cluster.accept_routes(alone=True)
        told.cluster.run(1, gateway=False)
    return told


def test_9_2_accepted_alone_is_believed_after_a_time_and_told_once():
    told = story({"canary": CANARY, "traffic": {"acceptTimeout": "30s"}})
    told.want("chat-2").until(Phase.PROGRESSING)
    terse(told, 25)
    assert told.state.accepted != 20
    terse(told, 10)
    assert told.state.accepted == 20
    assert events(told).count("ResolvedRefsMissing") == 1
    assert condition(told.cluster, "RouteAccepted") == ("True", "Accepted")
    while told.state.phase is not Phase.BAKING:
        terse(told, 1)
    assert events(told).count("ResolvedRefsMissing") == 1


def test_9_2_what_a_terse_gateway_lets_through_is_measured():
    told = story({"canary": SLOW, "traffic": {"acceptTimeout": "30s"}})
    told.cluster.traffic = Traffic(canary=HALF)
    told.want("chat-2").until(Phase.PROGRESSING)
    terse(told, 300)
    assert (told.state.phase, told.state.weight) == (Phase.PROGRESSING, 20)
    assert condition(told.cluster, "RolloutHealthy") == ("Unknown", "TrafficSplitMismatch")


# --- the share that is counted -----------------------------------------------------------------------


def test_9_2_a_split_that_is_not_as_told_holds_the_step_and_is_told_once():
    told = story({"canary": SLOW})
    told.cluster.traffic = Traffic(canary=HALF)
    told.want("chat-2").until(Phase.PROGRESSING).run(300)
    assert (told.state.phase, told.state.weight) == (Phase.PROGRESSING, 20)
    assert events(told).count("TrafficSplitMismatch") == 1
    assert told.cluster.get(*SERVICE)["status"]["rollout"]["traffic"]["mismatch"] is True
    told.cluster.traffic = Traffic(canary={"requests": 750, "errors": 1})
    told.run(5)
    assert condition(told.cluster, "RolloutHealthy") == ("True", "Progressing")
    told.run(90)
    assert told.state.weight == 50


def test_9_2_harm_rolls_back_however_the_requests_are_split():
    told = story({"canary": CANARY})
    told.cluster.traffic = Traffic(canary={**WORSE, "requests": 3000})
    told.want("chat-2").until(Phase.ROLLED_BACK)


# --- gRPC --------------------------------------------------------------------------------------------


def speaking(features: Any = GRPC, *before: Manifest, **spec: Any) -> Story:
    """Return a service whose engine speaks gRPC, at rest; its policy judges nothing."""
    cluster = holding("rules-json", "limits.rules.json", "Decision", settings=WITH_RUNTIME)
    cluster.put(gateway(), gateway_class(*features), *before)
    usual = {**policy()["spec"], "analysis": {"preset": "None"}}
    cluster.put({**policy(), "spec": {**usual, **spec}}).settle()
    cluster.put(service(engine={"name": "Predictive"}))
    return Story(cluster).until(Phase.STARTING).until(Phase.STABLE).run(5)


def push(told: Story) -> Story:
    """Want another revision of the same version."""
    told.cluster.edit(*SERVICE, {"spec": {"engine": {"env": [{"name": "A", "value": "1"}]}}}).settle()
    return told


def test_an_engine_that_speaks_grpc_has_a_route_on_a_host_of_its_own():
    told = speaking()
    found, http = grpc_route(told.cluster), route(told.cluster)
    assert found["spec"]["hostnames"] == ["grpc-chat.quickstart.models.example.com"]
    assert found["spec"]["parentRefs"] == http["spec"]["parentRefs"]
    (rule,) = found["spec"]["rules"]
    assert [(b["port"], b["weight"]) for b in rule["backendRefs"]] == [(8001, 100)]


def test_requests_over_grpc_move_with_the_others():
    told = push(speaking()).until(Phase.PROGRESSING).run(3)
    for found in (grpc_route(told.cluster), route(told.cluster)):
        assert weights(found["spec"]["rules"][0]) == [80, 20]
    told.until(Phase.BAKING).until(Phase.STABLE).run(5)
    (backend,) = grpc_route(told.cluster)["spec"]["rules"][0]["backendRefs"]
    assert backend["name"] == f"chat-{told.state.stable.hash}"


def test_a_step_counts_only_when_both_routes_are_accepted():
    told = push(speaking()).until(Phase.PROGRESSING)
    for _ in range(20):
        told.cluster.server.now = told.cluster.now
        whole = told.cluster.get("HTTPRoute", NAMESPACE, "chat")
        told.cluster.put({**whole, "status": parents(whole)})
        told.cluster.run(1, gateway=False)
    assert told.state.step_at is None
    told.run(2)
    assert told.state.step_at is not None


def test_a_listener_that_refuses_grpc_holds_nothing_and_is_told():
    told = push(speaking())
    for _ in range(400):
        for found in told.cluster.of("HTTPRoute"):
            told.cluster.put({**found, "status": parents(found)})
        for found in told.cluster.of("GRPCRoute"):
            told.cluster.put({**found, "status": parents(found, accepted="False", message="no such kind")})
        told.cluster.run(1, gateway=False)
        if told.state.phase is Phase.BAKING and told.state.accepted is not None:
            break
    assert told.state.phase is Phase.BAKING
    message = next(
        c["message"]
        for c in told.cluster.get(*SERVICE)["status"]["conditions"]
        if c["type"] == "RouteAccepted"
    )
    assert "it refuses the one for gRPC: NoMatchingListenerHostname: no such kind" in message


@pytest.mark.parametrize("features", [(), ("HTTPRoute",)], ids=["a class that lists nothing", "without it"])
def test_without_the_feature_there_is_no_route_for_grpc(features):
    assert grpc_route(speaking(features).cluster) is None


def test_a_gateway_that_loses_the_feature_loses_the_route():
    told = speaking()
    told.cluster.put(gateway_class("HTTPRoute"))
    told.run(2)
    assert grpc_route(told.cluster) is None


def test_s62_requests_over_grpc_are_matched_by_the_same_headers():
    match = [{"header": {"name": "x-beta", "value": "yes"}}]
    told = push(speaking(canary={"match": match, "minDwell": "30s"})).until(Phase.PROGRESSING).run(3)
    chosen, others = grpc_route(told.cluster)["spec"]["rules"]
    assert chosen["matches"] == [{"headers": [{"type": "Exact", "name": "x-beta", "value": "yes"}]}]
    assert chosen["backendRefs"][0]["name"] == f"chat-{told.state.candidate.hash}"
    assert weights(others) == [100, 0]


def test_an_engine_that_does_not_speak_grpc_never_gets_its_requests():
    told = speaking()
    stable = told.state.stable.hash
    told.cluster.edit(*SERVICE, {"spec": {"engine": CUSTOM, "accelerator": {"count": 1}}}).settle()
    told.until(Phase.PROGRESSING).run(3)
    (backend,) = grpc_route(told.cluster)["spec"]["rules"][0]["backendRefs"]
    assert (backend["name"], backend["weight"]) == (f"chat-{stable}", 100)
    assert weights(route(told.cluster)["spec"]["rules"][0]) == [80, 20]
    told.until(Phase.BAKING).until(Phase.STABLE).run(5)
    assert grpc_route(told.cluster) is None


def test_without_a_gateway_grpc_has_a_port_on_the_service_of_the_name():
    told = speaking(GRPC, traffic={"provider": "Replicas"})
    ports = told.cluster.get("Service", NAMESPACE, "chat")["spec"]["ports"]
    assert [port["port"] for port in ports] == [80, 8001]


def test_the_services_of_the_roles_have_the_port_for_grpc():
    backends = [{"name": f"chat-{role}", "port": 8001} for role in ("stable", "canary")]
    mine = web({"backendRefs": backends}, kind="GRPCRoute")
    told = speaking(GRPC, mine, traffic={"routeRef": {"kind": "GRPCRoute", "name": "web"}})
    assert [r["metadata"]["name"] for r in told.cluster.of("GRPCRoute")] == ["web"]
    ports = told.cluster.get("Service", NAMESPACE, "chat-canary")["spec"]["ports"]
    assert [port["port"] for port in ports] == [80, 8001]
    push(told).until(Phase.PROGRESSING).run(3)
    (found,) = told.cluster.of("GRPCRoute")
    assert weights(found["spec"]["rules"][0]) == [80, 20]


# --- clients that are pinned -------------------------------------------------------------------------

COOKIE = {"canary": {**CANARY, "sessionAffinity": {"cookie": "chat", "maxAge": "30m", "by": "Cookie"}}}


def goes_to(rules: list[Manifest], cookies: str) -> list[str]:
    """Return the Services that a request with these cookies may reach, as a gateway matches rules."""
    for one in rules:
        headers = [h for match in one["matches"] for h in match.get("headers", ())]
        if all(re.fullmatch(h["value"], cookies) for h in headers):
            return [b["name"] for b in one["backendRefs"] if b["weight"]]
    return []


def test_s63_without_session_persistence_answers_set_a_cookie_and_rules_match_it():
    told = story(COOKIE, features=()).want("chat-2").until(Phase.PROGRESSING).run(3)
    rules = route(told.cluster)["spec"]["rules"]
    stable, canary = told.state.stable.hash, told.state.candidate.hash
    name = f"chat-{told.state.run_id}"
    assert goes_to(rules, f"a=b; {name}={canary}") == [f"chat-{canary}"]
    assert goes_to(rules, f"{name}={stable}; c=d") == [f"chat-{stable}"]
    assert len(goes_to(rules, "a=b")) == 2
    filters = {b["name"]: b["filters"][0]["responseHeaderModifier"] for b in rules[-1]["backendRefs"]}
    set_by = {name: one["add"][0]["value"] for name, one in filters.items()}
    assert set_by[f"chat-{canary}"] == f"{name}={canary}; Path=/; Max-Age=1800; HttpOnly; SameSite=Lax"
    assert weights(rules[-1]) == [80, 20]
    told.until(Phase.BAKING).run(2)
    assert len(route(told.cluster)["spec"]["rules"]) == 1


def test_s63_an_abort_leaves_no_rule_for_old_cookies():
    told = story(COOKIE, features=()).want("chat-2").until(Phase.PROGRESSING).run(3)
    old = f"chat-{told.state.run_id}={told.state.candidate.hash}"
    bad = told.state.candidate.hash
    told.cluster.traffic = Traffic(canary=WORSE)
    told.until(Phase.ROLLING_BACK)
    assert f"chat-{bad}" not in goes_to(route(told.cluster)["spec"]["rules"], old)
    told.until(Phase.ROLLED_BACK)


def test_s63_pods_that_vanish_take_their_clients_cookie_with_them():
    told = story(COOKIE, features=()).want("chat-2").until(Phase.PROGRESSING).run(3)
    old = f"chat-{told.state.run_id}={told.state.candidate.hash}"
    told.cluster.start_pods(ready=False, only=told.state.candidate.hash).settle()
    rules = route(told.cluster)["spec"]["rules"]
    assert goes_to(rules, old) == [f"chat-{told.state.stable.hash}"]


def test_s63_pinned_clients_make_another_share_and_that_holds_nothing():
    told = story(COOKIE, features=())
    told.cluster.traffic = Traffic(canary=HALF)
    told.want("chat-2").until(Phase.PROGRESSING).run(60)
    assert told.state.weight == 50
    assert "TrafficSplitMismatch" not in events(told)


def test_s63_the_refusal_names_the_way_that_works():
    told = story({"canary": {**CANARY, "sessionAffinity": {}}}, features=()).want("chat-2").run(30)
    message = next(
        c["message"]
        for c in told.cluster.get(*SERVICE)["status"]["conditions"]
        if c["type"] == "RolloutHealthy"
    )
    assert "set canary.sessionAffinity.by to Cookie" in message
    assert told.state.paused_for == frozenset()
    told.cluster.edit("RolloutPolicy", NAMESPACE, "quickstart", {"spec": COOKIE}).settle()
    told.until(Phase.PROGRESSING)


# --- what people see ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "by"),
    [
        pytest.param({}, [{"kind": "HTTPRoute", "name": "chat", "accepted": True}], id="a route of ours"),
        pytest.param(
            {"settings": NO_GATEWAY}, [{"kind": "Service", "name": "chat"}], id="the Service of the name"
        ),
    ],
)
def test_the_status_tells_what_sends_the_requests(settings, by):
    told = story({"canary": CANARY}, **settings).run(3)
    status = told.cluster.get(*SERVICE)["status"]
    assert status["rollout"]["traffic"]["by"] == by
    assert complaints("InferenceService", "status", status) == []


def test_by_pods_stays_by_pods_while_its_policy_is_away():
    told = story(
        {"canary": {"steps": [40], "minDwell": "30s"}, "traffic": {"provider": "Replicas"}}, replicas=5
    )
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    told.cluster.remove("RolloutPolicy", NAMESPACE, "quickstart").settle()
    told.run(10)
    assert told.state.paused_for == {Pause.POLICY_MISSING}
    assert told.cluster.of("HTTPRoute") == []
    assert told.cluster.get("Service", NAMESPACE, "chat")["spec"]["selector"] == {
        "modelops.dev/service": "chat"
    }
