"""A route of the user's own: which weights a run changes, in which order, and that it gives them back."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.plan import Manifest
from modelops.rollouts.state import Pause, Phase
from modelops.serving import lent
from modelops.serving.snapshot import BackendRow, LentRow
from tests.fakeapi.patches import json_patch
from tests.serving.cluster import Cluster, Traffic
from tests.serving.situations import NAMESPACE, SERVICE, WORSE
from tests.serving.test_story import Story, prepared
from tests.serving.test_strategies import condition, story

CANARY = {"steps": [20, 50], "minDwell": "30s"}
NOTE = "weights.modelops.dev/chat"
Weight = int | None


# --- vocabulary --------------------------------------------------------------------------------------


def backend(name: str, weight: Weight = None) -> Manifest:
    return {"name": name, "port": 80, **({} if weight is None else {"weight": weight})}


def rule(stable: Weight = 100, canary: Weight = 0, *others: Manifest, **more: Any) -> Manifest:
    return {"backendRefs": [backend("chat-stable", stable), backend("chat-canary", canary), *others], **more}


def web(*rules: Manifest, kind: str = "HTTPRoute", name: str = "web", **meta: Any) -> Manifest:
    """Return a route as a user writes it."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"team": "chat"}, **meta},
        "spec": {
            "parentRefs": [{"name": "public", "namespace": "gateways"}],
            "hostnames": ["chat.example.com"],
            "rules": list(rules or [rule()]),
        },
    }


def routed(*rules: Manifest, kind: str = "HTTPRoute", **more: Any) -> Story:
    """Return a service that serves chat-1 by a route of the user's; chat-2 is approved."""
    ref = {"name": "web"} if kind == "HTTPRoute" else {"name": "web", "kind": kind}
    told = story({"canary": CANARY, "traffic": {"routeRef": ref}}, before=(web(*rules, kind=kind),), **more)
    told.after.append(sends_to_ready_pods)
    return told


def weights(cluster: Cluster) -> list[list[Weight]]:
    routes = (*cluster.of("HTTPRoute"), *cluster.of("GRPCRoute"))
    (rules,) = (found["spec"]["rules"] for found in routes if found["metadata"]["name"] == "web")
    return [[b.get("weight") for b in one["backendRefs"]] for one in rules]


def aims(cluster: Cluster) -> dict[str, str]:
    """Return the version that the Service of each role selects."""
    by_hash = {
        d["metadata"]["labels"]["modelops.dev/revision"]: d["metadata"]["labels"]["modelops.dev/version"]
        for d in cluster.of("Deployment")
    }
    services = {s["metadata"]["name"]: s for s in cluster.of("Service")}
    return {
        role: by_hash.get(services[f"chat-{role}"]["spec"]["selector"]["modelops.dev/revision"], "gone")
        for role in ("stable", "canary")
        if f"chat-{role}" in services
    }


def shares(cluster: Cluster) -> dict[str, int]:
    """Return the percent of the first rule's requests that each version gets."""
    (stable, canary), now = weights(cluster)[0][:2], aims(cluster)
    stable, canary = (1 if weight is None else weight for weight in (stable, canary))
    out: dict[str, int] = {}
    for role, weight in (("stable", stable), ("canary", canary)):
        out[now[role]] = out.get(now[role], 0) + round(100 * weight / (stable + canary))
    return {version: share for version, share in out.items() if share}


def sends_to_ready_pods(cluster: Cluster) -> None:
    """I1, whoever owns the route."""
    ready = {
        pod["metadata"]["labels"]["modelops.dev/version"]
        for pod in cluster.of("Pod")
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
    }
    assert set(shares(cluster)) <= ready


# --- a run -------------------------------------------------------------------------------------------


def test_a_run_shifts_the_weights_and_gives_them_back():
    told = routed()
    cluster = told.cluster
    assert (weights(cluster), aims(cluster)) == ([[100, 0]], {"stable": "chat-1", "canary": "chat-1"})
    assert cluster.get("HTTPRoute", NAMESPACE, "web")["metadata"].get("annotations") is None
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    assert weights(cluster) == [[80, 20]]
    assert aims(cluster) == {"stable": "chat-1", "canary": "chat-2"}
    while told.state.weight == 20:
        told.run(1)
    assert shares(cluster) == {"chat-1": 50, "chat-2": 50}
    told.until(Phase.BAKING).until(Phase.STABLE).run(5)
    assert (weights(cluster), aims(cluster)) == ([[100, 0]], {"stable": "chat-2", "canary": "chat-2"})
    assert NOTE not in cluster.get("HTTPRoute", NAMESPACE, "web")["metadata"]["annotations"]


@pytest.mark.parametrize(
    "found",
    [(100, 0), (None, None), (1, 0), (90, 10), (0, 100), (None, 3)],
    ids=["all and nothing", "without a word", "one and nothing", "both", "turned round", "one of them"],
)
def test_what_was_found_is_given_back_letter_by_letter(found):
    told = routed(rule(*found, filters=[{"type": "ExtensionRef"}]))
    before = told.cluster.get("HTTPRoute", NAMESPACE, "web")["spec"]
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    assert shares(told.cluster) == {"chat-1": 80, "chat-2": 20}
    told.until(Phase.BAKING).until(Phase.STABLE).run(5)
    assert told.cluster.get("HTTPRoute", NAMESPACE, "web")["spec"] == before


def test_harm_takes_the_weight_away_before_the_pods_and_then_gives_the_route_back():
    told = routed(rule(None, 0))
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    told.cluster.traffic = Traffic(canary=WORSE)
    told.until(Phase.ROLLING_BACK)
    assert shares(told.cluster) == {"chat-1": 100}
    assert aims(told.cluster)["canary"] == "chat-2"
    told.until(Phase.ROLLED_BACK).run(5)
    assert weights(told.cluster) == [[None, 0]]
    assert aims(told.cluster) == {"stable": "chat-1", "canary": "chat-1"}


def test_pods_that_die_after_the_promotion_switch_back_through_the_free_service():
    told = routed()
    told.cluster.edit("RolloutPolicy", NAMESPACE, "quickstart", {"spec": {"scaleDownDelay": "60s"}}).settle()
    told.want("chat-2").until(Phase.BAKING).run(5)
    bad = told.state.stable
    told.after.clear()
    told.cluster.start_pods(ready=False, only=bad.hash).settle()
    assert told.state.stable.version == "chat-1"
    for _ in range(40):
        told.cluster.run(1, pods=False)
    assert told.state.phase is Phase.ROLLED_BACK
    assert shares(told.cluster) == {"chat-1": 100}


def test_a_grpc_route_is_shifted_in_the_same_way():
    told = routed(kind="GRPCRoute")
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    assert weights(told.cluster) == [[80, 20]]
    told.until(Phase.BAKING).until(Phase.STABLE).run(5)
    assert weights(told.cluster) == [[100, 0]]
    assert told.cluster.of("HTTPRoute") == []


def test_a_newer_version_waits_for_the_weight_and_takes_the_free_service():
    told = routed()
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    prepared(told, "chat-2", "chat-3")
    told.want("chat-3")
    assert shares(told.cluster) == {"chat-1": 100}
    told.run(3)
    assert aims(told.cluster) == {"stable": "chat-1", "canary": "chat-3"}


# --- what stays the user's ---------------------------------------------------------------------------


def test_s12_foreign_filters_annotations_and_backends_stay_untouched():
    others = backend("legacy", 100)
    mine = rule(900, 0, others, filters=[{"type": "URLRewrite"}], matches=[{"path": {"value": "/v1"}}])
    alone = {"backendRefs": [backend("chat-stable")], "matches": [{"path": {"value": "/admin"}}]}
    told = routed(mine, alone, {"backendRefs": [backend("else", 7)]})
    told.cluster.edit(
        "HTTPRoute", NAMESPACE, "web", {"metadata": {"annotations": {"a": "b", "c/d": "e"}}}
    ).settle()
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    found = told.cluster.get("HTTPRoute", NAMESPACE, "web")
    assert weights(told.cluster) == [[720, 180, 100], [None], [7]]
    assert json.loads(found["metadata"]["annotations"].pop(NOTE)) == [
        [0, "chat-stable", 900],
        [0, "chat-canary", 0],
    ]
    assert (found["metadata"]["annotations"], found["metadata"]["labels"]) == (
        {"a": "b", "c/d": "e"},
        {"team": "chat"},
    )
    kept = [{k: v for k, v in one.items() if k != "backendRefs"} for one in found["spec"]["rules"]]
    assert kept == [
        {"filters": [{"type": "URLRewrite"}], "matches": [{"path": {"value": "/v1"}}]},
        {"matches": [{"path": {"value": "/admin"}}]},
        {},
    ]
    assert found["spec"]["hostnames"] == ["chat.example.com"]


def test_s11_a_weight_that_somebody_sets_is_repaired_in_one_pass_and_told():
    told = routed()
    told.want("chat-2").until(Phase.PROGRESSING).run(5)
    by_git = web(rule(100, 0))
    noted = told.cluster.get("HTTPRoute", NAMESPACE, "web")
    noted["spec"] = by_git["spec"]
    told.cluster.put(noted)
    told.cluster.answer().settle()
    assert weights(told.cluster) == [[80, 20]]
    assert "WeightDrift" in [event.reason for event in told.cluster.told.events]
    told.until(Phase.BAKING).until(Phase.STABLE).run(5)
    assert weights(told.cluster) == [[100, 0]]


def test_s13_a_route_that_changed_meanwhile_is_planned_again():
    told = routed()
    told.want("chat-2").until(Phase.PROGRESSING)
    cluster = told.cluster
    hidden = cluster.get("HTTPRoute", NAMESPACE, "web")
    hidden["spec"]["hostnames"] = ["other.example.com"]
    cluster.server.put(hidden)  # the operator has not seen it
    told.after.clear()
    before = weights(cluster)
    for _ in range(5):
        told.run(1)
    assert weights(cluster) == before
    cluster.observer.observe("HTTPRoute", "MODIFIED", cluster.get("HTTPRoute", NAMESPACE, "web"))
    told.run(3)
    assert weights(cluster) == [[80, 20]]
    assert cluster.get("HTTPRoute", NAMESPACE, "web")["spec"]["hostnames"] == ["other.example.com"]


# --- what cannot be used -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "told_as"),
    [
        pytest.param([{"backendRefs": [backend("chat-stable")]}], "found none; add both", id="one alone"),
        pytest.param([{"backendRefs": [backend("chat")]}], "found none; add both", id="neither"),
        pytest.param(
            [rule(90, 0, backend("legacy", 10))], "multiply all weights of the rule by 10", id="no percents"
        ),
        pytest.param(
            [{"backendRefs": [{**backend("chat-stable"), "namespace": "b"}, backend("chat-canary")]}],
            "found none; add both",
            id="of another namespace",
        ),
    ],
)  # fmt: skip
def test_a_route_that_cannot_be_shifted_is_told_and_left_alone(rules, told_as):
    told = story({"canary": CANARY, "traffic": {"routeRef": {"name": "web"}}}, before=(web(*rules),))
    told.want("chat-2").run(200)
    assert condition(told.cluster, "RouteAccepted") == ("False", "RouteUnusable")
    message = next(
        c["message"]
        for c in told.cluster.get(*SERVICE)["status"]["conditions"]
        if c["type"] == "RouteAccepted"
    )
    assert told_as in message
    assert told.cluster.get("HTTPRoute", NAMESPACE, "web")["spec"]["rules"] == rules
    assert told.state.paused_for == {Pause.ROUTE_NOT_ACCEPTED}
    assert told.state.rejected == ()


def test_a_route_that_is_mended_lets_the_run_go_on():
    told = story({"canary": CANARY, "traffic": {"routeRef": {"name": "web"}}})
    told.want("chat-2").run(200)
    assert condition(told.cluster, "RouteAccepted") == ("False", "RouteUnusable")
    told.cluster.put(web()).settle()
    told.until(Phase.BAKING)


def test_another_route_that_sends_to_the_canary_is_told():
    told = routed()
    told.cluster.put(web(rule(50, 50), name="second")).settle()
    told.run(3)
    assert condition(told.cluster, "RouteAccepted") == ("False", "RouteUnusable")
    told.cluster.put(web(rule(50, 0), name="second")).settle()
    told.run(3)
    assert condition(told.cluster, "RouteAccepted") == ("True", "Accepted")


def test_foreign_shares_that_come_in_mid_run_never_keep_a_bad_version_there():
    told = routed()
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    found = told.cluster.get("HTTPRoute", NAMESPACE, "web")
    found["spec"]["rules"][0]["backendRefs"].append(backend("legacy", 10))
    found["metadata"]["annotations"][NOTE] = json.dumps([[0, "chat-stable", 90], [0, "chat-canary", 0]])
    told.cluster.put(found).settle()
    told.cluster.traffic = Traffic(canary=WORSE)
    told.until(Phase.ROLLED_BACK).run(3)
    assert weights(told.cluster) == [[90, 0, 10]]


# --- another way -------------------------------------------------------------------------------------


def test_a_policy_that_names_a_route_keeps_ours_until_it_is_accepted():
    told = story({"canary": CANARY})
    told.cluster.edit(
        "RolloutPolicy", NAMESPACE, "quickstart", {"spec": {"traffic": {"routeRef": {"name": "web"}}}}
    ).settle()
    told.run(5)
    assert [r["metadata"]["name"] for r in told.cluster.of("HTTPRoute")] == ["chat"]
    assert condition(told.cluster, "RouteAccepted") == ("False", "RouteUnusable")
    told.cluster.put(web()).settle()
    told.run(5)
    assert [r["metadata"]["name"] for r in told.cluster.of("HTTPRoute")] == ["web"]
    by = told.cluster.get(*SERVICE)["status"]["rollout"]["traffic"]["by"]
    assert by == [{"kind": "HTTPRoute", "name": "web", "accepted": True, "yours": True}]
    assert told.cluster.get(*SERVICE)["status"]["url"] == "http://chat.example.com"


def test_a_policy_that_names_it_no_longer_gives_it_back_in_mid_run():
    told = routed(rule(None, 0))
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    told.cluster.edit("RolloutPolicy", NAMESPACE, "quickstart", {"spec": {"traffic": None}}).settle()
    told.run(10)
    assert weights(told.cluster) == [[None, 0]]
    assert aims(told.cluster) == {"stable": "chat-1", "canary": "chat-1"}, "the route still names them"
    ours = told.cluster.get("HTTPRoute", NAMESPACE, "chat")["spec"]["rules"][0]["backendRefs"]
    assert [one["weight"] for one in ours] == [80, 20]
    told.after.clear()
    told.cluster.remove("HTTPRoute", NAMESPACE, "web").settle()
    told.run(5)
    assert aims(told.cluster) == {}


def test_s67_a_policy_that_is_gone_in_mid_run_leaves_the_weights_where_they_are():
    told = routed()
    told.want("chat-2").until(Phase.PROGRESSING).run(3)
    told.cluster.remove("RolloutPolicy", NAMESPACE, "quickstart").settle()
    told.run(30)
    assert told.state.paused_for == {Pause.POLICY_MISSING}
    assert weights(told.cluster) == [[80, 20]]
    assert [r["metadata"]["name"] for r in told.cluster.of("HTTPRoute")] == ["web"]


# --- the pure parts ----------------------------------------------------------------------------------


def row(*rules: tuple[Weight, Weight], **more: Any) -> LentRow:
    backends = [
        BackendRow(number, index, name, weight)
        for number, pair in enumerate(rules)
        for index, (name, weight) in enumerate(zip(("chat-stable", "chat-canary"), pair, strict=True))
    ]
    return LentRow("HTTPRoute", "web", "u", "7", tuple(backends), is_accepted=True, **more)


@pytest.mark.parametrize(
    ("wanted", "now", "free", "next_"),
    [
        pytest.param(("a", "a"), {}, set(), ("a", "a"), id="there are none yet"),
        pytest.param(("a", "b"), {"stable": "a", "canary": "a"}, {"canary"}, ("a", "b"), id="a run begins"),
        pytest.param(("a", "b"), {"stable": "a", "canary": "a"}, set(), ("a", "a"), id="canary is busy"),
        pytest.param(("b", "b"), {"stable": "a", "canary": "b"}, {"stable"}, ("b", "b"), id="promoted"),
        pytest.param(("b", "b"), {"stable": "a", "canary": "b"}, set(), ("a", "b"), id="promoted, not moved"),
        pytest.param(
            ("a", "b"), {"stable": "b", "canary": "b"}, {"canary"}, ("b", "a"), id="back, over the free one"
        ),
        pytest.param(("a", "b"), {"stable": "b", "canary": "a"}, {"stable"}, ("a", "a"), id="back, moved"),
        pytest.param(("a", "b"), {"stable": "b", "canary": "a"}, set(), ("b", "a"), id="back, not moved yet"),
    ],
)  # fmt: skip
def test_a_service_that_gets_requests_is_never_turned(wanted, now, free, next_):
    assert tuple(lent.aimed(*wanted, now, frozenset(free)).values()) == next_


REVISIONS = st.sampled_from(["a", "b", "c"])
AIMS = st.fixed_dictionaries({"stable": REVISIONS, "canary": REVISIONS})


@given(REVISIONS, REVISIONS, AIMS, st.sets(st.sampled_from(["stable", "canary"])))
def test_law_what_is_not_free_keeps_its_aim_and_stable_can_be_reached(stable, canary, now, free):
    next_ = lent.aimed(stable, canary, now, frozenset(free))
    assert all(next_[role] == now[role] for role in ("stable", "canary") if role not in free)
    if "canary" in free or "stable" in free:
        assert stable in next_.values()


@given(REVISIONS, REVISIONS, AIMS, st.integers(0, 100))
def test_law_no_request_goes_to_a_revision_that_is_not_asked_for(stable, candidate, now, weight):
    goal = ((stable, 100 - weight), (candidate, weight))
    next_ = lent.aimed(stable, candidate, now, frozenset())
    share = lent.split(goal, now, next_)
    if share is not None:
        assert sum(share.values()) == 100
        reached = {now[role] for role, percent in share.items() if percent}
        assert reached <= {revision for revision, percent in goal if percent}


WEIGHTS = st.one_of(st.none(), st.integers(0, 1_000_000))
PAIRS = st.lists(st.tuples(WEIGHTS, WEIGHTS), min_size=1, max_size=4)


@given(PAIRS, st.integers(0, 100), st.integers(0, 100), st.booleans())
def test_law_given_back_is_what_was_found_whatever_came_between(pairs, first, second, noted):
    before = web(*(rule(*pair) for pair in pairs), **({"annotations": {"a": "b"}} if noted else {}))
    route = before
    for percent in (first, second):
        route = _carried_out(route, lambda r, p=percent: lent.shift(r, "chat", "n", _share(p)))
    route = _carried_out(route, lambda r: lent.give_back(r, "chat", "n"))
    assert route["spec"] == before["spec"]
    assert route["metadata"].get("annotations", {}) == before["metadata"].get("annotations", {})


@given(PAIRS, st.integers(0, 100))
def test_law_shifting_twice_changes_nothing_more(pairs, percent):
    route = _carried_out(
        web(*(rule(*p) for p in pairs)), lambda r: lent.shift(r, "chat", "n", _share(percent))
    )
    assert lent.shift(_read(route), "chat", "n", _share(percent)) is None


def _share(percent: int) -> dict[str, int]:
    return {"stable": 100 - percent, "canary": percent}


def _carried_out(route: Manifest, change: Any) -> Manifest:
    patch = change(_read(route))
    return route if patch is None else json_patch(route, patch.operations)


def _read(route: Manifest) -> LentRow:
    backends = [
        BackendRow(number, index, b["name"], b.get("weight"))
        for number, one in enumerate(route["spec"]["rules"])
        for index, b in enumerate(one["backendRefs"])
    ]
    notes = route["metadata"].get("annotations")
    found = {(r, n): w for r, n, w in json.loads(notes[NOTE])} if notes and NOTE in notes else None
    return LentRow("HTTPRoute", "web", "u", "7", tuple(backends), found, bool(notes))


@pytest.mark.parametrize(
    ("rows", "roles"),
    [
        pytest.param([row((100, 0))], {"canary"}, id="all to stable"),
        pytest.param([row((0, 100))], {"stable"}, id="all to the canary"),
        pytest.param([row((100, 0), (0, 100))], set(), id="two rules that differ"),
        pytest.param([row((None, None))], set(), id="no word is a weight of one"),
        pytest.param([replace(row((100, 0)), is_accepted=False)], set(), id="an older one may still run"),
        pytest.param([], {"stable", "canary"}, id="no route"),
    ],
)
def test_which_service_is_free(rows, roles):
    assert lent.free(rows, "chat", takes_alone=False) == roles
