"""The stories in which the operator is killed: what is there, what a person does, and when it is over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from modelops.plan import Manifest
from modelops.rollouts.state import Phase
from modelops.serving.status import read_rollout
from tests.fakeapi.api import FakeApi
from tests.serving import situations
from tests.serving.cluster import Cluster, Traffic, merged
from tests.serving.situations import NAMESPACE, SERVICE, WORSE


def waits_at(weight: int) -> Manifest:
    """Return a policy whose step at *weight* waits for a person."""
    return {"spec": {"canary": {"stepSettings": [{"weight": weight, "pause": "Manual"}]}}}


@dataclass(frozen=True)
class Story:
    """One story; the operator has come to rest before it begins and when it is done."""

    name: str
    given: Callable[[], Cluster]
    act: Callable[[FakeApi], None]
    is_done: Callable[[FakeApi], bool]
    traffic: Traffic = field(default_factory=Traffic)
    few: int = 4
    """So many of its writes are struck where not every one is."""
    jump: float = 0.0
    """By so many seconds the machine's wall clock jumps ten seconds after the story began."""


def want(name: str) -> Callable[[FakeApi], None]:
    """Return what asks for another version."""
    return edit({"spec": {"model": {"version": name}}})


def edit(patch: Mapping[str, Any]) -> Callable[[FakeApi], None]:
    def act(api: FakeApi) -> None:
        api.edit(*SERVICE, lambda obj: obj.update(merged(obj, patch)))

    return act


def rests(phase: Phase, version: str, weight: int | None = None) -> Callable[[FakeApi], bool]:
    """Return what asks whether the service has come to *phase* with *version* in charge, or at *weight*."""

    def is_done(api: FakeApi) -> bool:
        service = api.get(*SERVICE)
        status = (service or {}).get("status") or {}
        state = read_rollout(status)
        leads = state.candidate if weight is not None else state.stable
        is_there = state.phase is phase and leads is not None and leads.version == version
        return is_there and (weight is None or state.accepted == weight) and _is_routed(api)

    return is_done


def _is_routed(api: FakeApi) -> bool:
    return any(c["status"] == "True" for c in _conditions(api) if c["type"] == "RouteAccepted")


def _conditions(api: FakeApi) -> list[Manifest]:
    return list(((api.get(*SERVICE) or {}).get("status") or {}).get("conditions") or ())


def _everything_new(api: FakeApi) -> None:
    version = situations.version()
    api.seed(version, situations.model_node("node-a", situations.artifact()))
    api.seed(situations.approval(version), situations.service())


def _is_gone(api: FakeApi) -> bool:
    kinds = ("Deployment", "Service", "HTTPRoute", "PersistentVolume", "PersistentVolumeClaim", "Pod")
    return api.get(*SERVICE) is None and not any(api.all(kind) for kind in kinds)


def _is_scaled(api: FakeApi) -> bool:
    replicas = [d["spec"]["replicas"] for d in api.all("Deployment")]
    paths = [r["spec"]["rules"][0]["matches"][0]["path"]["value"] for r in api.all("HTTPRoute")]
    return replicas == [2] and paths == ["/v1"] and rests(Phase.STABLE, "chat-1")(api)


def _under(patch: Manifest, cluster: Cluster) -> Cluster:
    """Return *cluster* with its rollout policy changed."""
    return cluster.edit("RolloutPolicy", NAMESPACE, "quickstart", patch).settle()


def _two_candidates() -> Cluster:
    cluster = _under(waits_at(20), situations.serving())
    for number, name in enumerate(("chat-2", "chat-3"), 2):
        situations.pinned(cluster, name)
        situations.proven(cluster, *(f"chat-{n}" for n in range(1, number + 1)))
        situations.approved(cluster, name)
    cluster.edit(*SERVICE, {"spec": {"model": {"version": "chat-2"}}}).settle()
    cluster.until("chat", Phase.PROGRESSING)
    while cluster.rollout("chat").phase is not Phase.PAUSED:
        cluster.run(1)
    return cluster


def asked(action: str) -> Callable[[FakeApi], None]:
    """Return what a person asks of the run that is in status, or of the one that was rolled back last."""

    def act(api: FakeApi) -> None:
        status = (api.get(*SERVICE) or {})["status"]
        run = status["rejected"][-1]["runId"] if action == "Retry" else status["rollout"]["runId"]
        model = {"approves": "chat"} if action == "Promote" else {}
        edit({"spec": {"rollout": {"action": action, "runId": run, "by": "approver", **model}}})(api)

    return act


def _approved_under(patch: Manifest) -> Cluster:
    """Return a cluster that serves chat-1 under a changed policy, and in which chat-2 may run."""
    cluster = _under(patch, situations.serving())
    situations.proven(situations.pinned(cluster, "chat-2"), "chat-1", "chat-2")
    return situations.approved(cluster, "chat-2")


def _waits_for_approval() -> Cluster:
    """Return a cluster whose candidate is proven good and waits for a person to promote it."""
    asking: Manifest = {"spec": {"approval": {"beforePromotion": True}}}
    return _under(asking, situations.at_step(50)).until("chat", Phase.AWAITING_APPROVAL).run(5)


BLUE_GREEN: Manifest = {"spec": {"strategy": "BlueGreen", "canary": None, "blueGreen": {"bake": "20s"}}}
SHADOW: Manifest = {"spec": {"strategy": "Shadow", "shadow": {"percent": 20, "duration": "40s"}}}


def nothing(api: FakeApi) -> None:
    """Do nothing: time alone moves the story."""


STORIES = (
    Story("create", situations.begun, _everything_new, rests(Phase.STABLE, "chat-1")),
    Story(
        "update",
        situations.serving,
        edit({"spec": {"scaling": {"minReplicas": 2}, "traffic": {"path": "/v1"}}}),
        _is_scaled,
    ),
    Story(
        "canary step",
        lambda: _under(waits_at(50), situations.at_step(20)),
        nothing,
        rests(Phase.PAUSED, "chat-2", 50),
    ),
    Story("promotion", lambda: situations.at_step(50), nothing, rests(Phase.STABLE, "chat-2")),
    Story(
        "rollback",
        lambda: situations.at_step(20),
        nothing,
        rests(Phase.ROLLED_BACK, "chat-1"),
        Traffic(canary=WORSE),
    ),
    Story("supersede", _two_candidates, want("chat-3"), rests(Phase.PAUSED, "chat-3", 20)),
    Story("delete", situations.serving, lambda api: api.delete(*SERVICE), _is_gone),
    Story("abort", lambda: situations.at_step(20), asked("Abort"), rests(Phase.ROLLED_BACK, "chat-1"), few=2),
    Story(
        "retry",
        lambda: _under(waits_at(20), situations.rolled_back()),
        asked("Retry"),
        rests(Phase.PAUSED, "chat-2", 20),
        few=2,
    ),
    Story("approval", _waits_for_approval, asked("Promote"), rests(Phase.STABLE, "chat-2"), few=2),
    Story("revert", lambda: situations.at_step(20), want("chat-1"), rests(Phase.STABLE, "chat-1"), few=2),
    Story(
        "blue-green",
        lambda: _approved_under(BLUE_GREEN),
        want("chat-2"),
        rests(Phase.STABLE, "chat-2"),
        few=2,
    ),
    Story(
        "blue-green goes back",
        lambda: _approved_under(BLUE_GREEN),
        want("chat-2"),
        rests(Phase.ROLLED_BACK, "chat-1"),
        Traffic(canary=WORSE),
        few=2,
    ),
    Story("shadow", lambda: _approved_under(SHADOW), want("chat-2"), rests(Phase.STABLE, "chat-2"), few=2),
    Story(
        "S66 delete in mid-run",
        lambda: situations.at_step(20),
        lambda api: api.delete(*SERVICE),
        _is_gone,
        few=2,
    ),
)


@cache
def brought(name: str) -> Cluster:
    """Return the cluster in which a story begins; made once, never changed."""
    return next(story for story in STORIES if story.name == name).given()
