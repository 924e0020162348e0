"""One service through its life, second by second, with every plan held to the rules."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

import pytest

from modelops.controllers.services import MEASURED
from modelops.controllers.store import Key
from modelops.plan import Manifest
from modelops.rollouts.state import Phase
from modelops.serving.snapshot import Measured
from tests.serving.cluster import SETTINGS, Cluster, Traffic
from tests.serving.rules import broken
from tests.serving.situations import (
    NAMESPACE,
    SERVICE,
    WORSE,
    approved,
    begun,
    pinned,
    policy,
    proven,
    pushed,
    ready_to_start,
    service,
    version,
)

NO_GATEWAY = {**SETTINGS, "gateway": {}}


@dataclass
class Story:
    """A cluster in which time passes, with what must never change written down."""

    cluster: Cluster
    restart_every: int = 0
    gateway_lag: int = 0
    seconds: int = 0
    templates: dict[str, Manifest] = field(default_factory=dict)
    pods: dict[str, str] = field(default_factory=dict)
    waits: dict[int, int] = field(default_factory=dict)
    after: list[Callable[[Cluster], None]] = field(default_factory=list)
    """What holds after every second."""

    def __post_init__(self) -> None:
        self.cluster.checks.append(broken)

    @property
    def state(self):
        return self.cluster.rollout("chat")

    def run(self, seconds: int) -> "Story":
        for _ in range(seconds):
            self.cluster.run(1, gateway=self._gateway_answers())
            self.seconds += 1
            if self.restart_every and self.seconds % self.restart_every == 0:
                self.cluster.again().settle()
            self._nothing_restarts()
            for check in self.after:
                check(self.cluster)
        return self

    def until(self, phase: Phase, seconds: int = 900) -> "Story":
        for _ in range(seconds):
            if self.state.phase is phase:
                return self
            self.run(1)
        raise AssertionError(f"never {phase}: {self.state}")

    def want(self, version: str) -> "Story":
        self.cluster.edit(*SERVICE, {"spec": {"model": {"version": version}}}).settle()
        return self

    def _gateway_answers(self) -> bool:
        """Tell whether the gateway has had its time for the newest route."""
        for route in self.cluster.of("HTTPRoute"):
            generation = route["metadata"]["generation"]
            self.waits[generation] = self.waits.get(generation, 0) + 1
            return self.waits[generation] > self.gateway_lag
        return True

    def _nothing_restarts(self) -> None:
        for deployment in self.cluster.of("Deployment"):
            name, template = deployment["metadata"]["name"], deployment["spec"]["template"]
            assert self.templates.setdefault(name, template) == template
        for pod in self.cluster.of("Pod"):
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            assert self.pods.setdefault(name, uid) == uid

    def deployments(self) -> dict[str, str]:
        return {
            d["metadata"]["labels"]["modelops.dev/version"]: d["metadata"]["labels"]["modelops.dev/role"]
            for d in self.cluster.of("Deployment")
        }


def serving(**more) -> Story:
    story = Story(ready_to_start().put(service()), **more)
    return story.until(Phase.STARTING).until(Phase.STABLE).run(100)


def prepared(story: Story, *versions: str) -> Story:
    cluster, known = story.cluster, ["chat-1"]
    for name in versions:
        known.append(name)
        approved(proven(pinned(cluster, name), *known), name)
    return story


@pytest.mark.parametrize(
    ("restart_every", "gateway_lag"),
    [
        pytest.param(0, 0, id="in a calm cluster"),
        pytest.param(7, 0, id="with an operator that is killed every seven seconds"),
        pytest.param(0, 20, id="with a gateway that takes twenty seconds"),
        pytest.param(11, 3, id="with both, now and then"),
    ],
)
def test_a_good_version_takes_over_and_a_bad_one_does_not(restart_every, gateway_lag):
    story = prepared(serving(restart_every=restart_every, gateway_lag=gateway_lag), "chat-2", "chat-3")
    story.want("chat-2").until(Phase.BAKING)
    assert story.state.stable.version == "chat-2"
    story.until(Phase.STABLE).run(gateway_lag + 2)
    assert story.deployments() == {"chat-2": "stable"}

    story.cluster.traffic = Traffic(canary=WORSE)
    story.want("chat-3").until(Phase.ROLLED_BACK).run(gateway_lag + 2)
    assert story.deployments() == {"chat-2": "stable"}
    (rejected,) = story.state.rejected
    assert rejected.version == "chat-3"
    assert "errors 8% vs 0.2% (n=3000, 3000)" in rejected.reason

    before = story.state
    story.run(20).want("chat-2").until(Phase.STABLE).want("chat-3").run(30)
    assert story.deployments() == {"chat-2": "stable"}
    assert story.state.rejected == before.rejected


def test_events_tell_each_transition_once():
    story = prepared(serving(), "chat-2").want("chat-2").until(Phase.BAKING).until(Phase.STABLE)
    told = [event.reason for event in story.cluster.told.events]
    assert told == ["Started", "Serving", "Started", "WeightChanged", "WeightChanged", "Promoted"]


def test_metrics_that_are_away_freeze_the_weight_and_nothing_else():
    story = prepared(serving(), "chat-2").want("chat-2").until(Phase.PROGRESSING).run(3)
    story.cluster.traffic = Traffic(away_since=story.cluster.now)
    story.run(300)
    assert (story.state.phase, story.state.accepted) == (Phase.PROGRESSING, 20)
    story.cluster.traffic = Traffic()
    story.until(Phase.BAKING)


def test_evidence_survives_a_pass_without_a_word_of_the_judge():
    """The policy is away for a moment: what was proven until then must not be lost."""
    story = prepared(serving(), "chat-2").want("chat-2").until(Phase.PROGRESSING).run(60)
    service_before = story.cluster.get(*SERVICE)["status"]["rollout"]
    policy = story.cluster.get("RolloutPolicy", NAMESPACE, "quickstart")
    story.cluster.remove("RolloutPolicy", NAMESPACE, "quickstart").settle()
    during = story.cluster.get(*SERVICE)["status"]["rollout"]
    assert story.state.phase is Phase.PAUSED
    assert [during[key] for key in ("analysis", "carry", "windowSeconds", "frozen")] == [
        service_before[key] for key in ("analysis", "carry", "windowSeconds", "frozen")
    ]
    del policy["metadata"]["uid"]
    story.cluster.put(policy)
    story.until(Phase.BAKING)


def test_a_default_policy_that_goes_in_mid_run_promotes_nothing():
    story = serving()
    policy = story.cluster.get("RolloutPolicy", NAMESPACE, "quickstart")
    policy["metadata"]["labels"] = {"modelops.dev/default-rollout-policy": "true"}
    story.cluster.put(policy).edit(*SERVICE, {"spec": {"rolloutPolicyRef": None}}).settle()
    prepared(story, "chat-2").want("chat-2").until(Phase.PROGRESSING).run(3)
    story.cluster.remove("RolloutPolicy", NAMESPACE, "quickstart")
    story.run(120)
    assert (story.state.phase, story.state.accepted) == (Phase.PAUSED, 20)


def test_a_candidate_revoked_before_its_first_request_loses_its_pods():
    story = prepared(serving(), "chat-2").want("chat-2").run(3)
    assert story.deployments() == {"chat-1": "stable", "chat-2": "canary"}
    approved(story.cluster, "chat-2", decision="Revoke", by="officer")
    story.run(5)
    assert story.state.phase is Phase.AWAITING_APPROVAL
    assert story.deployments() == {"chat-1": "stable"}


def test_a_gate_holds_the_candidate_when_the_spec_already_names_another_version():
    story = prepared(serving(), "chat-2").want("chat-2").until(Phase.PROGRESSING).run(3)
    story.want("chat-9").run(3)
    assert (story.state.phase, story.state.candidate.version) == (Phase.PROGRESSING, "chat-2")
    approved(story.cluster, "chat-2", decision="Revoke", by="officer")
    story.run(60)
    assert (story.state.phase, story.state.accepted) == (Phase.PAUSED, 20)


def test_what_was_measured_for_another_run_is_no_evidence():
    story = prepared(serving(), "chat-2", "chat-3").want("chat-2").until(Phase.PROGRESSING)
    story.cluster.traffic = Traffic(canary=WORSE)
    story.run(25).want("chat-3")
    story.cluster.traffic = Traffic()
    story.until(Phase.PROGRESSING).until(Phase.BAKING)
    assert story.state.stable.version == "chat-3"
    assert story.state.rejected == ()


def test_what_was_told_about_another_run_is_not_heard():
    """Prometheus was away for hours in the run before; this run begins with a clean slate."""
    story = prepared(serving(), "chat-2").want("chat-2").until(Phase.PROGRESSING).run(3)
    cluster = story.cluster
    away_since = cluster.now - timedelta(hours=2)
    cluster.observations.put(SERVICE, MEASURED, Measured("another-run", away_since=away_since))
    cluster.settle()
    assert story.state.phase is Phase.PROGRESSING
    cluster.observations.put(SERVICE, MEASURED, Measured(story.state.run_id, away_since=away_since))
    cluster.settle()
    assert story.state.phase is Phase.PAUSED


def test_without_a_gateway_a_service_without_policy_is_replaced_by_readiness():
    cluster = begun(settings=NO_GATEWAY)
    approved(proven(pinned(cluster), "chat-1"))
    cluster.put(service()).edit(*SERVICE, {"spec": {"rolloutPolicyRef": None}}).settle()
    cluster.until("chat", Phase.STABLE)
    approved(proven(pinned(cluster, "chat-2"), "chat-1", "chat-2"), "chat-2")
    cluster.edit(*SERVICE, {"spec": {"model": {"version": "chat-2"}}}).settle()
    cluster.until("chat", Phase.BAKING).until("chat", Phase.STABLE).run(3)
    assert cluster.rollout("chat").stable.version == "chat-2"
    assert len(cluster.of("Deployment")) == 1
    assert cluster.of("HTTPRoute") == []


def test_a_gateway_that_is_taken_out_of_the_settings_takes_its_route_along():
    cluster = pushed()
    cluster.restart(NO_GATEWAY)
    cluster.resync()
    assert cluster.of("HTTPRoute") == []


def test_a_lost_job_is_made_again_until_it_speaks():
    """A complete Job whose pod is gone has no last words."""
    cluster = begun(version())
    cluster.finish_job("").settle()
    (first,) = cluster.of("Job")
    for _ in range(130):
        cluster.server.now += timedelta(seconds=1)
        cluster.wake().settle()
    (second,) = cluster.of("Job")
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    assert cluster.get("ModelVersion", NAMESPACE, "chat-1")["status"]["phase"] == "Resolving"


def test_an_upgrade_leaves_a_running_job_alone():
    """The server refuses to change the template of a Job."""
    cluster = begun(version())
    images = {"operator": "registry.example.com/modelops:2.0"}
    cluster.restart({**SETTINGS, "images": images})
    writes = list(cluster.server.writes)
    cluster.resync()
    assert cluster.server.writes == writes


def test_a_job_that_has_spoken_goes_when_its_words_are_kept():
    cluster = pinned(begun())
    assert cluster.of("Job") == []


def test_a_deleted_service_is_let_go_without_a_write():
    story = serving()
    going = {"metadata": {"deletionTimestamp": "2026-01-05T09:05:00Z"}}
    story.cluster.edit(*SERVICE, going)
    writes = list(story.cluster.server.writes)
    story.cluster.keys.add(Key(*SERVICE))
    while story.cluster.keys:
        key = story.cluster.keys.popleft()
        if key == SERVICE:
            assert story.cluster.look(key) is None
    assert story.cluster.server.writes == writes


def test_an_empty_policy_is_a_whole_one():
    story = prepared(serving(), "chat-2")
    story.cluster.put({**policy(), "spec": {}}).settle()
    story.want("chat-2").until(Phase.PROGRESSING)
    reached = {}
    while story.state.phase is Phase.PROGRESSING:
        if story.state.accepted:
            reached.setdefault(story.state.accepted, story.seconds)
        story.run(1)
    assert list(reached) == [5, 10, 25, 50]
    seconds = list(reached.values())
    assert min(after - before for before, after in pairwise(seconds)) >= 120
    assert story.state.phase is Phase.PROMOTING
    story.until(Phase.STABLE)
    assert story.deployments() == {"chat-2": "stable"}
