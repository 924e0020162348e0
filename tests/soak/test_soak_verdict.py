"""What became of lost requests, and what is stuck."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from e2e.soak.verdict import Found, Kill, Lost, Passed, attribute, read_passed, stuck

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
AT = 1000.0
KILLED = Kill("chat-1a-x", "10.0.0.5", AT)
CUT = Passed(began=AT - 5, ended=AT + 0.1, address="10.0.0.5", code=200, flags="UC")


def user(passed, what="stream"):
    return Lost(passed.began + 0.01, passed.ended + 0.02, what)


@pytest.mark.parametrize(
    ("passed", "held", "late", "unexplained"),
    [
        pytest.param(CUT, 1, 0, 0, id="open when its pod was killed"),
        pytest.param(
            replace(CUT, began=AT + 1, ended=AT + 1.1, code=503, flags="UF"), 0, 1, 0, id="sent to it after"
        ),
        pytest.param(replace(CUT, began=AT + 60, ended=AT + 61, code=503), 0, 0, 1, id="a minute after"),
        pytest.param(replace(CUT, ended=AT - 2), 0, 0, 1, id="ended before the kill"),
        pytest.param(replace(CUT, address="10.0.0.6"), 0, 0, 1, id="another pod had it"),
        pytest.param(replace(CUT, address="", code=503, flags="UH"), 0, 0, 1, id="no pod had it"),
        pytest.param(replace(CUT, flags="-"), 0, 0, 1, id="the gateway saw nothing wrong"),
        pytest.param(replace(CUT, began=AT - 9), 0, 0, 1, id="the gateway lost another one"),
    ],
)
def test_a_lost_request_is_given_to_the_killed_pod_that_had_it(passed, held, late, unexplained):
    lost = user(CUT) if passed.began == AT - 9 else user(passed)
    found = attribute([lost], [passed], [KILLED])
    counts = (sum(found.held.values()), sum(found.late.values()), len(found.unexplained))
    assert counts == (held, late, unexplained)


def test_one_entry_of_the_gateway_explains_one_lost_request():
    twice = [user(CUT), replace(user(CUT), began=CUT.began + 0.1)]
    found = attribute(twice, [CUT], [KILLED])
    assert (dict(found.held), len(found.unexplained)) == ({"chat-1a-x": 1}, 1)


def test_without_a_kill_every_lost_request_is_somebodys_fault():
    assert len(attribute([user(CUT)], [CUT], []).unexplained) == 1


def test_an_entry_is_read_and_other_lines_are_not():
    line = {
        "start_time": "2026-01-05T09:00:00.250Z",
        "duration": "1500",
        "upstream_host": "10.0.0.5:8000",
        "response_code": "503",
        "response_flags": "UF,URX",
    }
    began = NOW.timestamp() + 0.25
    assert read_passed(line) == Passed(began, began + 1.5, "10.0.0.5", 503, "UF,URX")
    nobody = read_passed({**line, "upstream_host": None})
    assert nobody is not None
    assert nobody.address == ""
    assert read_passed({"msg": "started"}) is None


# --- objects -----------------------------------------------------------------------------------------


def obj(kind, name, *, api="v1", uid="", **more):
    meta = {"namespace": "n", "name": name, "uid": uid or f"{kind}-{name}", **more.pop("meta", {})}
    return {"apiVersion": api, "kind": kind, "metadata": meta, **more}


def condition(type_, status):
    return {"type": type_, "status": status, "reason": "R", "message": "m"}


CONDITIONS = [condition("Ready", "True"), condition("Stalled", "False"), condition("Reconciling", "False")]
STATUS = {
    "observedGeneration": 3,
    "conditions": CONDITIONS,
    "stable": {"hash": "1a"},
    "rollout": {"phase": "Stable"},
    "placement": {"revisions": [{"digest": "sha256:ab12"}]},
}
SERVICE = obj(
    "InferenceService", "chat", api="modelops.dev/v1alpha1", uid="s", meta={"generation": 3}, status=STATUS
)
OWNED = {"ownerReferences": [{"uid": "s"}], "labels": {"modelops.dev/revision": "1a"}}
DEPLOYMENT = obj("Deployment", "chat-1a", api="apps/v1", meta=OWNED)
VOLUME = obj(
    "PersistentVolume", "v", meta={"labels": {"modelops.dev/digest": "ab1"}},
    spec={"claimRef": {"namespace": "n"}}, status={"phase": "Bound"},
)  # fmt: skip
POD = obj("Pod", "p", status={"phase": "Running", "conditions": [condition("Ready", "True")]})
LEASE = obj(
    "Lease", "modelops", spec={"holderIdentity": "op-1_uuid", "renewTime": "2026-01-05T08:59:55.000000Z"}
)
WELL = Found((SERVICE,), (), (DEPLOYMENT,), (VOLUME,), (POD,), LEASE, ("op-1", "op-2"), NOW)


def with_status(**more):
    return {**SERVICE, "status": {**STATUS, **more}}


def with_meta(base, **more):
    return {**base, "metadata": {**base["metadata"], **more}}


def test_nothing_is_stuck_where_all_is_well():
    assert stuck(WELL) == ()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(
            replace(WELL, services=(with_status(conditions=[condition("Ready", "False"), *CONDITIONS[1:]]),)),
            "Ready is False",
            id="a service that is not ready",
        ),
        pytest.param(
            replace(WELL, services=(with_status(conditions=CONDITIONS[1:]),)),
            "Ready is absent",
            id="one without conditions",
        ),
        pytest.param(
            replace(WELL, services=(with_status(observedGeneration=2),)), "2 was planned", id="an older plan"
        ),
        pytest.param(
            replace(WELL, services=(with_status(rollout={"phase": "Paused"}),)),
            "its rollout is Paused",
            id="a rollout that stands",
        ),
        pytest.param(
            replace(WELL, services=(with_meta(SERVICE, finalizers=["x"]),)),
            "has finalizers",
            id="a finalizer",
        ),
        pytest.param(
            replace(WELL, pods=(with_meta(POD, deletionTimestamp="t"),)),
            "is going since t",
            id="one that is going",
        ),
        pytest.param(
            replace(WELL, children=(with_meta(DEPLOYMENT, ownerReferences=[{"uid": "other"}]),)),
            "its owner is gone",
            id="an orphan",
        ),
        pytest.param(
            replace(WELL, children=(with_meta(DEPLOYMENT, labels={"modelops.dev/revision": "2b"}),)),
            "revision 2b does not serve",
            id="a revision that nobody needs",
        ),
        pytest.param(replace(WELL, children=(obj("Job", "j"),)), "is left of a version", id="a Job"),
        pytest.param(
            replace(WELL, volumes=({**VOLUME, "spec": {"claimRef": {"namespace": "other"}}},)),
            "no service uses it",
            id="a volume of another namespace",
        ),
        pytest.param(
            replace(WELL, volumes=({**VOLUME, "status": {"phase": "Released"}},)),
            "is Released",
            id="a volume let go",
        ),
        pytest.param(
            replace(WELL, pods=({**POD, "status": {"phase": "Running"}},)),
            "not ready",
            id="a pod that is not ready",
        ),
        pytest.param(replace(WELL, leaders=("op-2",)), "held by op-1_uuid", id="a Lease of one who is gone"),
        pytest.param(
            replace(WELL, now=NOW + timedelta(seconds=30)),
            "was renewed last",
            id="a Lease that nobody renews",
        ),
    ],
)
def test_what_is_stuck_is_told(found, words):
    told = stuck(found)
    assert len(told) == 1, told
    assert words in told[0]
