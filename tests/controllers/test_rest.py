"""A resync that would read what the pass before has read does not plan; any change makes it plan again."""

import asyncio
import copy
import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.controllers.observations import REFUSED
from modelops.controllers.queue import Queue
from modelops.controllers.services import MEASURED, REPORTS
from modelops.controllers.store import Key
from modelops.controllers.worker import Loop, Workers
from modelops.placement.learned import Report
from modelops.plan import Manifest, Reason
from modelops.serving.snapshot import Measured
from tests.serving.cluster import key_of
from tests.serving.situations import NAMESPACE, SERVICE, ours, ready_to_start, service, serving

RESYNC = timedelta(minutes=10)


class Resting:
    """Workers over a cluster in which chat-1 serves, and how often the plan of the service was asked."""

    def __init__(self, *, repairs: bool = False) -> None:
        """Without *repairs* none is due."""
        self.cluster = serving()
        self.now = 0.0
        self.queue: Queue[Key] = Queue(lambda: self.now)
        self.planned: list[Any] = []
        self.root = self.cluster.roots["InferenceService"]
        loop = Loop(
            self.cluster.store,
            self.queue,
            self.cluster.observations,
            self.cluster.executor,
            self.cluster.parts.clock,
            RESYNC,
        )
        self.workers = Workers(loop, (self,), monotonic=lambda: self.now)
        self.wake()
        if not repairs:
            self.workers._repair_at[SERVICE] = math.inf

    resource = property(lambda self: self.root.resource)
    rests = True

    def gather(self, key, reading):
        return self.root.gather(key, reading)

    def plan(self, seen, now):
        self.planned.append(self.root.plan(seen, now))
        return self.planned[-1]

    def wake(self) -> bool:
        """Let somebody ask for a pass; return whether it planned."""
        self.queue.add(SERVICE)
        return self._passes()

    def resync(self) -> bool:
        """Let the time of the resync come; return whether it planned."""
        self.now += 1.2 * RESYNC.total_seconds()
        return self._passes()

    def _passes(self) -> bool:
        before = len(self.planned)
        taken = self.queue.take()
        assert taken == SERVICE
        asyncio.run(self.workers.give_pass(taken))
        self.queue.done(taken)
        self.cluster.keys.clear()
        return len(self.planned) > before

    def slip_in(self, obj: Manifest) -> None:
        """Put an object into the store, and wake nobody: as if the event had been mishandled."""
        watched = next(one for one in self.cluster.kinds.watched if one.resource.kind == obj["kind"])
        self.cluster.store.put(obj["kind"], watched.project(self.cluster.server.put(obj)))

    def slip_out(self, key: Key) -> None:
        obj = self.cluster.get(*key)
        assert self.cluster.store.drop(*key, obj["metadata"]["uid"])

    def first(self, kind: str) -> Manifest:
        return next(obj for obj in self.cluster.of(kind) if "resolve" not in obj["metadata"]["name"])


def test_a_resync_rests_while_nothing_has_changed():
    resting = Resting()
    assert [resting.resync() for _ in range(3)] == [False] * 3
    assert resting.wake(), "who is woken by an event plans"
    assert not resting.resync()


READ = (
    "InferenceService",
    "ModelVersion",
    "Model",
    "ModelApproval",
    "RolloutPolicy",
    "Namespace",
    "ModelNode",
    "Deployment",
    "Service",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "HTTPRoute",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
)
"""Kinds of which a serving service has something, children that only the executor looks at included."""


@pytest.mark.parametrize("kind", READ)
def test_a_change_that_woke_nobody_makes_the_next_resync_plan(kind):
    resting = Resting()
    resting.slip_in(resting.first(kind))
    assert resting.resync()
    assert not resting.resync()


@pytest.mark.parametrize("kind", [kind for kind in READ if kind != "InferenceService"])
def test_an_object_that_went_unnoticed_makes_the_next_resync_plan(kind):
    resting = Resting()
    resting.slip_out(key_of(resting.first(kind)))
    assert resting.resync()


def gateway_api(kind: str, name: str, namespace: str = "", **spec: Any) -> Manifest:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": meta, "spec": spec}


def lent() -> Manifest:
    backends = [{"name": "chat-stable"}, {"name": "chat-canary"}]
    return gateway_api("HTTPRoute", "theirs", NAMESPACE, rules=[{"backendRefs": backends}])


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(gateway_api("Gateway", "edge", "gateways", gatewayClassName="c"), id="its Gateway"),
        pytest.param(
            {
                **ours(
                    "ModelApproval",
                    "late",
                    {
                        "versionRef": "chat-1",
                        "decision": "Reject",
                        "modelRef": "chat",
                        "artifactDigest": "sha256:" + "0" * 64,
                        "specHash": "sha256:" + "0" * 64,
                        "environments": ["prod"],
                    },
                )
            },
            id="another approval of its version",
        ),
        pytest.param(lent(), id="a route of a user that sends to it"),
    ],
)
def test_what_was_not_there_makes_the_next_resync_plan_when_it_comes(obj):
    resting = Resting()
    resting.slip_in(obj)
    assert resting.resync()


def test_the_class_of_its_gateway_is_read_too():
    resting = Resting()
    resting.slip_in(gateway_api("Gateway", "edge", "gateways", gatewayClassName="c"))
    resting.resync()
    resting.slip_in(gateway_api("GatewayClass", "c"))
    assert resting.resync()


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        pytest.param(MEASURED, Measured("run"), id="samples"),
        pytest.param(REPORTS, (Report("aa", 1, 1),), id="what an engine told"),
        pytest.param(REFUSED, Reason("A", "b"), id="a refusal"),
    ],
)
def test_an_observation_makes_the_next_resync_plan(topic, value):
    resting = Resting()
    resting.cluster.observations.put(SERVICE, topic, value)
    resting.cluster.keys.clear()
    assert resting.resync()


def test_nodes_and_pods_of_others_do_not_matter_to_a_service_that_has_its_place():
    resting = Resting()
    resting.slip_in(resting.first("Node"))
    other = copy.deepcopy(resting.first("Pod"))
    other["metadata"] = {"name": "other", "namespace": "elsewhere"}
    resting.slip_in(other)
    assert not resting.resync()


def test_who_looks_for_a_place_plans_at_every_resync():
    cluster = ready_to_start()
    cluster.put(service())
    reading = cluster.reading(SERVICE)
    seen = cluster.roots["InferenceService"].gather(SERVICE, reading)
    assert reading.can_be_marked
    cluster.roots["InferenceService"].plan(seen, cluster.now)
    assert not reading.can_be_marked


def test_now_and_then_a_resync_plans_and_repairs_though_nothing_changed():
    resting = Resting(repairs=True)
    planned = sum(resting.resync() for _ in range(60))  # 12 hours
    assert 3 <= planned <= 4


EDITS = st.sampled_from(
    [
        ("Namespace", {"metadata": {"labels": {"modelops.dev/environment": "dev"}}}),
        ("ModelVersion", {"spec": {"lifecycle": "Revoked"}}),
        ("ModelVersion", {"status": {"artifactDigest": "sha256:" + "9c" * 32}}),
        ("Model", {"spec": {"governance": {"approvals": {"required": 2}}}}),
        ("RolloutPolicy", {"spec": {"canary": {"steps": [50]}}}),
        ("ModelNode", {"status": {"cache": []}}),
        ("HTTPRoute", {"status": {"parents": []}}),
        ("Pod", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        ("Deployment", {"spec": {"replicas": 7}}),
        ("Deployment", {"metadata": {"annotations": {"modelops.dev/applied-hash": "0"}}}),
        ("InferenceService", {"spec": {"scaling": {"minReplicas": 3}}}),
        ("InferenceService", {"metadata": {"labels": {"team": "a"}}}),
        ("Node", {"spec": {"unschedulable": True}}),
        ("Namespace", {"metadata": {"annotations": {"a": "b"}}}),
    ]
)


@settings(max_examples=20, deadline=None)
@given(st.lists(EDITS, max_size=3))
def test_a_resync_that_rests_hides_nothing(edits):
    """Whatever changed without waking anybody: who rests would have planned what it planned before."""
    resting = Resting()
    before = resting.planned[-1]
    for kind, patch in edits:
        obj = resting.first(kind)
        resting.cluster.edit(kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"], patch)
    resting.cluster.keys.clear()
    if not resting.resync():
        seen = resting.root.gather(SERVICE, resting.cluster.reading(SERVICE))
        assert resting.root.plan(seen, resting.cluster.now) == before
