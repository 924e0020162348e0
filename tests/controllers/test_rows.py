"""What is remembered of pods, routes, Jobs and nodes' reports, as the API server returns them."""

import pytest

from modelops.controllers import route_rows, rows
from modelops.plan import Manifest
from modelops.serving.snapshot import Exit

PARENT = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "gateways"}
OURS = {"app.kubernetes.io/managed-by": "modelops"}


def obj(kind: str, *, labels=None, spec=None, status=None, **meta) -> Manifest:
    named = {"name": "chat", "namespace": "quickstart", "uid": "u-1", "resourceVersion": "7", **meta}
    return {
        "kind": kind,
        "metadata": {**named, "labels": {**OURS, **(labels or {})}},
        "spec": spec or {},
        "status": status or {},
    }


# --- routes ------------------------------------------------------------------------------------------


def condition(
    type_: str, status: str = "True", *, reason: str = "", message: str = "", seen: int = 3
) -> Manifest:
    return {"type": type_, "status": status, "reason": reason, "message": message, "observedGeneration": seen}


GOOD = (condition("Accepted"), condition("ResolvedRefs"))


def route(*conditions: Manifest, parent: Manifest = PARENT) -> Manifest:
    backends = [{"name": "chat-1", "weight": 80}, {"name": "chat-2", "weight": 20}]
    parents = (
        [{"parentRef": parent, "conditions": list(conditions)}] if conditions or parent != PARENT else []
    )
    return obj(
        "HTTPRoute",
        labels={"modelops.dev/service": "chat"},
        generation=3,
        spec={"parentRefs": [PARENT], "rules": [{"backendRefs": backends}]},
        status={"parents": parents},
    )


def of_parents(*given: tuple[Manifest, tuple[Manifest, ...]], wanted: tuple[Manifest, ...]) -> Manifest:
    """Return a user's route with these parents, and what was said for some."""
    found = route(*GOOD)
    found["spec"]["parentRefs"] = list(wanted)
    found["status"] = {"parents": [{"parentRef": p, "conditions": list(said)} for p, said in given]}
    return found


ALONE = (condition("Accepted"),)
SHORT = {"name": "edge", "namespace": "gateways"}
OTHER = {"name": "inner"}
FULL = {**OTHER, "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "quickstart"}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        pytest.param(of_parents((SHORT, GOOD), wanted=(PARENT,)), (True, False, ""), id="without defaults"),
        pytest.param(
            of_parents((PARENT, GOOD), (FULL, GOOD), wanted=(SHORT, OTHER)), (True, False, ""), id="both"
        ),
        pytest.param(of_parents((PARENT, GOOD), wanted=(SHORT, OTHER)), (False, False, ""), id="one silent"),
        pytest.param(
            of_parents(
                (SHORT, GOOD), (FULL, (condition("Accepted", "False", reason="No"),)), wanted=(SHORT, OTHER)
            ),
            (False, False, "No: "),
            id="one refuses",
        ),
        pytest.param(
            of_parents((SHORT, GOOD), (FULL, ALONE), wanted=(SHORT, OTHER)),
            (False, True, ""),
            id="one says nothing about references",
        ),
        pytest.param(
            of_parents(({**SHORT, "sectionName": "a"}, GOOD), wanted=(SHORT,)),
            (False, False, ""),
            id="another listener",
        ),
        pytest.param(
            of_parents((SHORT, GOOD), (SHORT, ALONE), wanted=(SHORT,)),
            (False, True, ""),
            id="two controllers for one parent",
        ),
        pytest.param(of_parents(wanted=()), (False, False, ""), id="attached nowhere"),
    ],
)  # fmt: skip
def test_what_all_parents_say_together(found, told):
    row = route_rows.route(found).ours
    assert (row.is_accepted, row.is_alone, row.fault) == told


def test_a_route_that_a_gateway_refuses_carries_nothing():
    refused = condition("Accepted", "False", reason="NotAllowedByListeners")
    assert route_rows.route(route(refused)).ours.is_refused
    partly = condition("PartiallyInvalid", reason="UnsupportedValue")
    assert not route_rows.route(route(*GOOD, partly)).ours.is_refused
    assert not route_rows.route(route(condition("ResolvedRefs", "False"))).ours.is_refused


def of_a_user(*backends: Manifest, notes=None, **more) -> Manifest:
    found = route(*GOOD)
    found["metadata"] |= {"labels": {}, **({"annotations": notes} if notes else {})}
    found["spec"] = {"parentRefs": [PARENT], "rules": [{"backendRefs": list(backends)}], **more}
    return found


def test_of_a_users_route_the_rules_are_kept_that_name_a_service_of_a_role():
    mine = {"name": "chat-stable", "weight": 90}
    others = (
        {"name": "legacy"},
        {"name": "chat-canary", "namespace": "b"},
        {"name": "x", "kind": "ServiceImport"},
    )
    row = route_rows.route(of_a_user(mine, *others, hostnames=["chat.example.com"]))
    assert [(b.rule, b.index, b.name, b.weight) for b in row.lent] == [
        (0, 0, "chat-stable", 90), (0, 1, "legacy", None), (0, 2, "", None), (0, 3, "", None)
    ]  # fmt: skip
    assert (row.service, row.hostnames) == ("", ("chat.example.com",))
    assert list(route_rows.services_lent(row)) == ["quickstart/chat"]


def test_of_any_other_route_nothing_is_kept():
    row = route_rows.route(of_a_user({"name": "web", "weight": 1}, hostnames=["a.example.com"]))
    assert (row.lent, row.found, row.hostnames, list(route_rows.services_lent(row))) == ((), {}, (), [])


@pytest.mark.parametrize(
    ("note", "found"),
    [
        pytest.param('[[0,"chat-stable",90],[0,"chat-canary",null]]',
                     {(0, "chat-stable"): 90, (0, "chat-canary"): None}, id="as it was noted"),
        pytest.param("[[0]]", {}, id="edited until nobody can read it"),
        pytest.param("{", {}, id="no JSON"),
        pytest.param("7", {}, id="a number"),
    ],
)  # fmt: skip
def test_the_weights_that_were_found_are_noted_on_the_route(note, found):
    row = route_rows.route(of_a_user({"name": "web"}, notes={"weights.modelops.dev/chat": note, "a": "b"}))
    assert row.found == {"chat": found}
    assert list(route_rows.services_lent(row)) == ["quickstart/chat"]


@pytest.mark.parametrize(
    ("found", "is_accepted", "fault"),
    [
        pytest.param(route(*GOOD), True, "", id="accepted with all references resolved"),
        pytest.param(route(), False, "", id="nobody answered yet"),
        pytest.param(
            route(*GOOD, parent={**PARENT, "name": "other"}), False, "", id="another Gateway answered"
        ),
        pytest.param(
            route(*GOOD, parent={**PARENT, "namespace": "other"}), False, "", id="one of that name elsewhere"
        ),
        pytest.param(
            route(condition("Accepted", seen=2), condition("ResolvedRefs", seen=2)),
            False,
            "",
            id="an answer for the write before is none",
        ),
        pytest.param(
            route(condition("Accepted", seen=3), condition("ResolvedRefs", seen=2)),
            False,
            "",
            id="half an answer is none",
        ),
        pytest.param(
            route(condition("Accepted")), False, "", id="accepted, but nobody says the references resolve"
        ),
        pytest.param(
            route(condition("Accepted", "False", reason="NoMatchingParent", message="no such listener")),
            False,
            "NoMatchingParent: no such listener",
            id="not accepted, with the gateway's words",
        ),
        pytest.param(
            route(condition("Accepted"), condition("ResolvedRefs", "False", reason="BackendNotFound")),
            False,
            "BackendNotFound: ",
            id="a Service that the gateway does not find",
        ),
        pytest.param(
            route(*GOOD, condition("PartiallyInvalid", reason="UnsupportedValue", message="rule 0")),
            False,
            "UnsupportedValue: rule 0",
            id="partially invalid: the rules before may still run",
        ),
        pytest.param(
            route(*GOOD, condition("PartiallyInvalid", seen=2)),
            True,
            "",
            id="was partially invalid before this write",
        ),
        pytest.param(
            route(*GOOD, condition("example.com/Cached", "False")),
            True,
            "",
            id="a condition of the gateway's own says nothing to us",
        ),
    ],
)
def test_what_the_gateway_says_about_a_route(found, is_accepted, fault):
    row = route_rows.route(found).ours
    assert (row.is_accepted, row.fault) == (is_accepted, fault)
    assert row.weights == (("chat-1", 80), ("chat-2", 20))


@pytest.mark.parametrize(
    ("weights", "has_drifted"),
    [
        pytest.param((80, 20), False, id="as it was written"),
        pytest.param((0, 100), True, id="somebody moved the traffic"),
    ],
)
def test_a_weight_that_somebody_changed_is_seen(weights, has_drifted):
    names = ("chat-1", "chat-2")
    backends = [{"name": name, "weight": weight} for name, weight in zip(names, weights, strict=True)]
    wanted = {"spec": {"rules": [{"backendRefs": backends}]}}
    assert route_rows.route_drifted(route_rows.route(route(*GOOD)), wanted) is has_drifted


def test_a_deployment_that_somebody_scaled_is_seen():
    row = rows.child(obj("Deployment", labels={"modelops.dev/revision": "aa"}, spec={"replicas": 3}))
    assert rows.child_drifted(row, {"spec": {"replicas": 1}})
    assert not rows.child_drifted(row, {"spec": {"replicas": 3}})


# --- pods --------------------------------------------------------------------------------------------


def container(name: str = "engine", *, ready: bool = False, restarts: int = 0, **states) -> Manifest:
    return {"name": name, "ready": ready, "restartCount": restarts, **states}


def pod(*containers: Manifest, phase: str = "Running", conditions=(), **more) -> Manifest:
    status = {"phase": phase, "conditions": list(conditions), "containerStatuses": list(containers)}
    labels = {"modelops.dev/service": "chat", "modelops.dev/revision": "aa", **more.pop("labels", {})}
    spec = {"nodeName": "node-a", "containers": [{"name": "engine", "resources": {}}]}
    if "startTime" in more:
        status["startTime"] = more.pop("startTime")
    return obj("Pod", labels=labels, spec=more.pop("spec", spec), status=status, **more)


READY = {"type": "Ready", "status": "True"}
LOOP = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
START = "2026-01-05T09:00:00Z"
UNREADY = {"type": "Ready", "status": "False", "lastTransitionTime": START}
LATER = {"lastTransitionTime": "2026-01-05T09:04:00Z"}
SAID = {"terminated": {"reason": "Error", "exitCode": 1, "message": "no room"}}
GAVE_UP = {"terminated": {"reason": "Completed", "exitCode": 0, "message": "failed to load"}}
OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        pytest.param(
            pod(container(ready=True, state={"running": {}}), conditions=[READY]),
            {"is_ready": True, "restarts": 0, "pending": "", "last_exit": None},
            id="ready",
        ),
        pytest.param(
            pod(container(), conditions=[READY], deletionTimestamp="2026-01-05T09:00:00Z"),
            {"is_ready": True, "is_terminating": True},
            id="terminating, while it still answers",
        ),
        pytest.param(
            pod(container(restarts=3, state=LOOP, lastState=OOM)),
            {
                "is_ready": False,
                "restarts": 3,
                "pending": "engine: CrashLoopBackOff back-off 40s",
                "last_exit": Exit("OOMKilled", 137),
            },
            id="crash looping after it ran out of memory",
        ),
        pytest.param(
            pod(container(ready=True, restarts=1, state={"running": {}}, lastState=OOM), conditions=[READY]),
            {"restarts": 1, "last_exit": None},
            id="crashed once and is well again",
        ),
        pytest.param(
            pod(container(state={"terminated": {"exitCode": 0, "reason": "Completed"}})),
            {"last_exit": None},
            id="ended well",
        ),
        pytest.param(
            pod(container(lastState=SAID), startTime=START, conditions=[UNREADY]),
            {"last_exit": Exit("Error", 1, log_tail="no room")},
            id="crashed before anybody was answered: its log is kept",
        ),
        pytest.param(
            pod(container(lastState=SAID), startTime=START, conditions=[{**UNREADY, **LATER}]),
            {"last_exit": Exit("Error", 1)},
            id="crashed after it was ready: its log may hold prompts",
        ),
        pytest.param(
            pod(container(lastState=SAID)),
            {"last_exit": Exit("Error", 1)},
            id="crashed, and nothing tells whether it was ready",
        ),
        pytest.param(
            pod(container(lastState=GAVE_UP), startTime=START, conditions=[UNREADY]),
            {"last_exit": Exit("Completed", 0, log_tail="failed to load")},
            id="an engine gave up before it was ready and calls that a success",
        ),
        pytest.param(
            pod(container("wait", state=GAVE_UP), startTime=START, conditions=[UNREADY]),
            {"last_exit": None},
            id="the wait for the bytes ended well",
        ),
        pytest.param(
            pod(
                phase="Pending",
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
                    }
                ],
            ),
            {"pending": "Unschedulable: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu."},
            id="no node takes it",
        ),
        pytest.param(
            pod(container(state={"waiting": {"reason": "PodInitializing"}}), phase="Pending"),
            {"pending": ""},
            id="still waiting for its bytes, which is nothing to tell",
        ),
        pytest.param(
            pod(container(state={"waiting": {"reason": "ErrImagePull", "message": "x" * 900}})),
            {"pending": ("engine: ErrImagePull " + "x" * 900)[:512]},
            id="a long story of the kubelet is cut",
        ),
        pytest.param(pod(container(), phase="Failed"), {"is_finished": True}, id="evicted"),
    ],
)
def test_how_a_pod_of_ours_does(found, told):
    row = rows.pod(found)
    assert {name: getattr(row, name) for name in told} == told
    assert (row.service, row.revision, row.node) == ("chat", "aa", "node-a")


def test_of_a_foreign_pod_only_what_it_takes_is_kept():
    gpu = {"limits": {"nvidia.com/gpu": "2"}}
    spec = {"nodeName": "node-a", "containers": [{"name": "train", "resources": gpu}]}
    found = obj("Pod", spec=spec, status={"phase": "Running", "conditions": [READY]})
    found["metadata"]["labels"] = {"modelops.dev/service": "chat"}
    row = rows.pod(found)
    assert row.use.requests["nvidia.com/gpu"] == 2
    assert (row.service, row.is_ready) == ("", False)


def test_a_pod_that_takes_nothing_planned_is_no_use():
    spec = {
        "nodeName": "node-a",
        "containers": [{"name": "web", "resources": {"requests": {"memory": "1Gi"}}}],
    }
    found = obj("Pod", spec=spec, status={"phase": "Running"})
    assert rows.pod(found).use is None


JOB = {"batch.kubernetes.io/job-name": "resolve-chat-1", "modelops.dev/version": "chat-1"}


@pytest.mark.parametrize(
    ("ended", "labels", "words"),
    [
        pytest.param({"exitCode": 0, "message": "{}"}, JOB, "{}", id="a Job's pod that ended well"),
        pytest.param({"exitCode": 1, "message": "{}"}, JOB, "", id="one that failed has nothing to say"),
        pytest.param({"exitCode": 0, "message": "{}"}, {}, "", id="a serving pod is not asked"),
    ],
)
def test_whose_last_words_are_kept(ended, labels, words):
    assert rows.pod(pod(container(state={"terminated": ended}), labels=labels)).last_words == words


# --- Jobs and nodes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "told"),
    [
        pytest.param({}, (False, False, "", None), id="running"),
        pytest.param(
            {
                "conditions": [{"type": "Complete", "status": "True"}],
                "completionTime": "2026-01-05T09:00:00Z",
            },
            (True, False, "", "2026-01-05T09:00:00+00:00"),
            id="complete",
        ),
        pytest.param(
            {
                "conditions": [
                    {
                        "type": "Failed",
                        "status": "True",
                        "reason": "DeadlineExceeded",
                        "message": "too late",
                        "lastTransitionTime": "2026-01-05T09:30:00Z",
                    }
                ]
            },
            (False, True, "DeadlineExceeded: too late", "2026-01-05T09:30:00+00:00"),
            id="failed",
        ),
    ],
)
def test_how_far_a_job_is(status, told):
    row = rows.job(obj("Job", labels={"modelops.dev/version": "chat-1"}, status=status))
    ended = row.ended_at.isoformat() if row.ended_at else None
    assert (row.is_done, row.is_failed, row.fault, ended) == told


def test_a_volume_is_known_by_its_digest_and_claim():
    spec = {"claimRef": {"namespace": "quickstart", "name": "model-1a"}}
    row = rows.volume(obj("PersistentVolume", labels={"modelops.dev/digest": "1a"}, spec=spec))
    assert (row.digest, row.claim_namespace, row.claim) == ("1a", "quickstart", "model-1a")
