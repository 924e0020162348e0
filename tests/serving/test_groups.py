"""Pods on several nodes that serve as one: LeaderWorkerSet's rules on one side, the plans on the other.

LeaderWorkerSet is written here as its documentation describes it (kubernetes-sigs/lws 0.6): a leader and
size - 1 workers a group, all made anew when a container of any of them ends.  Its
controller itself was never run with these objects.
"""

from typing import Any

import pytest
import yaml
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modelops.api import names
from modelops.placement.inventory import GPU_RESOURCE
from modelops.rollouts.state import Phase
from tests.serving.cluster import Cluster, pod_of
from tests.serving.restricted import refusals
from tests.serving.shapes import H100, LARGE_LLAMA, hosts, ready
from tests.serving.situations import GOLDEN, NAMESPACE, SERVICE, service

SIZE, GPUS = 2, 8
ENGINE = {"name": "vLLM", "contextTokens": 4096}


class Groups:
    """What LeaderWorkerSet's controller and the kubelets do, one step at a time."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.running: dict[str, set[int]] = {}
        """By group: indexes of the pods whose container runs."""
        self.answers: set[str] = set()
        """Groups whose leader passes its probe."""

    def sets(self) -> list[dict[str, Any]]:
        return self.cluster.of("LeaderWorkerSet")

    def names(self) -> list[str]:
        return [
            f"{one['metadata']['name']}-{number}"
            for one in self.sets()
            for number in range(one["spec"]["replicas"])
        ]

    def settle(self) -> "Groups":
        """Make the pods of groups that are wanted, and remove those of groups that are not."""
        wanted = self.names()
        for gone in set(self.running) - set(wanted):
            del self.running[gone]
            self.answers.discard(gone)
        for group in wanted:
            self.running.setdefault(group, set())
        self.answers = {group for group in self.answers if len(self.running[group]) == SIZE}
        self._show()
        return self

    def start(self, group: str, index: int) -> None:
        """Start a container; the engine answers once those of all stages run."""
        self.running[group].add(index)

    def answer(self, group: str) -> None:
        if len(self.running[group]) == SIZE:
            self.answers.add(group)

    def crash(self, group: str) -> None:
        """End any container of a group: restartPolicy RecreateGroupOnPodRestart makes all of them anew."""
        self.running[group].clear()
        self.answers.discard(group)

    def _show(self) -> None:
        pods = {}
        for one in self.sets():
            spec = one["spec"]["leaderWorkerTemplate"]
            for number in range(one["spec"]["replicas"]):
                group = f"{one['metadata']['name']}-{number}"
                for index in range(spec["size"]):
                    template = spec["workerTemplate" if index else "leaderTemplate"]
                    base = {"metadata": one["metadata"], "spec": {"template": template}}
                    # Without a probe a pod is ready as soon as its containers run.
                    is_ready = index in self.running[group] if index else group in self.answers
                    pod = pod_of(base, group if index == 0 else f"{group}-{index}", ready=is_ready)
                    pod["metadata"]["labels"][names.GROUP_INDEX] = str(index)
                    pod["spec"]["nodeName"] = f"host-{(number * SIZE + index) % 4}"
                    pods[pod["metadata"]["name"]] = pod
        for old in self.cluster.of("Pod"):
            is_ours = names.REVISION in (old["metadata"].get("labels") or {})
            if is_ours and old["metadata"]["name"] not in pods:
                self.cluster.remove("Pod", NAMESPACE, old["metadata"]["name"])
        for pod in pods.values():
            self.cluster.put(pod)
        self.cluster.settle()


def served(replicas: int = 1) -> Cluster:
    cluster = ready(LARGE_LLAMA, *hosts(4))
    cluster.put(
        service(engine=ENGINE, accelerator={"nodes": SIZE, "count": GPUS}, scaling={"minReplicas": replicas})
    )
    return cluster.settle()


def status(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get(*SERVICE)["status"]
    return found


@settings(max_examples=8, stateful_step_count=15, deadline=None)
class AnyLife(RuleBasedStateMachine):
    """Whatever happens to the pods, the service tells the truth about its groups and never touches one."""

    @initialize()
    def begin(self) -> None:
        self.cluster = served()
        self.groups = Groups(self.cluster).settle()
        self.template = self.groups.sets()[0]["spec"]["leaderWorkerTemplate"]

    def _pick(self, data: int) -> str | None:
        known = sorted(self.groups.running)
        return known[data % len(known)] if known else None

    @rule(data=st.integers(0, 9), index=st.integers(0, SIZE - 1))
    def a_container_starts(self, data: int, index: int) -> None:
        group = self._pick(data)
        if group:
            self.groups.start(group, index)
            self.groups.settle()

    @rule(data=st.integers(0, 9))
    def a_leader_answers(self, data: int) -> None:
        group = self._pick(data)
        if group:
            self.groups.answer(group)
            self.groups.settle()

    @rule(data=st.integers(0, 9))
    def a_container_ends(self, data: int) -> None:
        group = self._pick(data)
        if group:
            self.groups.crash(group)
            self.groups.settle()

    @rule(replicas=st.integers(1, 2))
    def somebody_scales(self, replicas: int) -> None:
        self.cluster.edit(*SERVICE, {"spec": {"scaling": {"minReplicas": replicas}}}).settle()
        self.groups.settle()

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.cluster.run(seconds, pods=False)
        self.groups.settle()

    @precondition(lambda self: len(self.groups.answers) > 0)
    @rule()
    def the_operator_starts_anew(self) -> None:
        self.cluster.again()
        self.groups.settle()

    @invariant()
    def a_group_counts_when_its_leader_answers(self) -> None:
        told = status(self.cluster)
        assert told.get("readyReplicas", 0) == len(self.groups.answers)
        assert told.get("replicas", 0) == len(self.groups.running)

    @invariant()
    def nothing_is_ready_without_a_leader_that_answers(self) -> None:
        told = {c["type"]: c for c in status(self.cluster)["conditions"]}
        if told["Ready"]["status"] == "True":
            assert self.groups.answers

    @invariant()
    def the_pods_are_never_changed(self) -> None:
        (one,) = self.groups.sets()
        assert one["spec"]["leaderWorkerTemplate"] == self.template

    @invariant()
    def requests_reach_leaders_alone(self) -> None:
        for found in self.cluster.of("Service"):
            if names.REVISION in found["spec"]["selector"]:
                assert found["spec"]["selector"][names.GROUP_INDEX] == "0"


TestAnyLife = AnyLife.TestCase


def test_a_service_is_ready_when_its_leader_is_and_not_before():
    cluster = served()
    groups = Groups(cluster).settle()
    (group,) = groups.names()
    groups.start(group, 1)
    groups.settle()
    cluster.run(5, pods=False)
    assert status(cluster)["readyReplicas"] == 0, "a worker without a probe is ready by itself"
    groups.start(group, 0)
    groups.answer(group)
    groups.settle()
    cluster.run(10, pods=False)
    assert cluster.rollout("chat").phase is Phase.STABLE
    assert status(cluster)["pods"] == "1/1"
    assert status(cluster)["accelerator"] == f"{SIZE} nodes of {GPUS} x {H100}"


def test_gpus_of_all_nodes_of_a_group_are_promised():
    cluster = served()
    other = service("other", engine=ENGINE, accelerator={"nodes": SIZE, "count": GPUS})
    third = service("third", engine=ENGINE, accelerator={"nodes": SIZE, "count": GPUS})
    cluster.put(other).settle()
    cluster.put(third).settle()
    plans = {
        name: cluster.get("InferenceService", NAMESPACE, name)["status"]["placement"]["plan"]
        for name in ("chat", "other", "third")
    }
    used = [{plans[name]["node"], *plans[name]["members"]} for name in ("chat", "other")]
    assert used == [{"host-0", "host-1"}, {"host-2", "host-3"}]
    assert plans["third"]["reason"] == "WaitingForCapacity"


def test_weights_are_fetched_on_every_node_of_a_group():
    cluster = served()
    cache = cluster.get("ModelVersion", NAMESPACE, "chat-1")["status"]["cache"]["nodes"]
    assert {"host-0", "host-1"} <= {one["name"] for one in cache}


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("*group*/plan.yaml")))
@pytest.mark.parametrize("part", ["leaderTemplate", "workerTemplate"])
def test_pods_of_groups_are_restricted(case, part):
    plan = yaml.safe_load((GOLDEN / case / "plan.yaml").read_text())
    for obj in plan["apply"]:
        if obj["kind"] == "LeaderWorkerSet":
            template = obj["spec"]["leaderWorkerTemplate"][part]
            assert refusals(template["spec"]) == []
            (engine,) = template["spec"]["containers"]
            assert engine["resources"]["limits"] == {GPU_RESOURCE: "8"}
            assert ("readinessProbe" in engine) is (part == "leaderTemplate")
            assert "$(LWS_LEADER_ADDRESS)" in " ".join(engine["args"])
            assert ("$(LWS_WORKER_INDEX)" in " ".join(engine["args"])) is (part == "workerTemplate")
