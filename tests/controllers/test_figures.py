"""What the leader tells of the whole fleet: from real rows, plans and writes, as Prometheus reads it."""

from dataclasses import replace
from datetime import datetime

import pytest
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from modelops.controllers import probes
from modelops.controllers.context import GATE, GATE_TOPIC
from modelops.controllers.figures import OUTCOMES, outcome
from modelops.controllers.own_rows import service as service_row
from modelops.governance.countersign import GateState
from modelops.placement.inventory import GPU_RESOURCE
from modelops.plan import Manifest, Reason
from modelops.rollouts.state import Phase
from tests.serving.cluster import GATE_SINCE, Cluster, Traffic
from tests.serving.situations import (
    NAMESPACE,
    SERVICE,
    WORSE,
    approved,
    artifact,
    at_step,
    begun,
    model_node,
    node,
    pinned,
    proven,
    ready_to_start,
    service,
    serving,
)

CHAT = {"service_namespace": NAMESPACE, "service_name": "chat"}


def told(cluster: Cluster, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Return the samples of *name* with *labels*, by the values of their other labels."""
    (figures,) = cluster.kinds.figures
    text = probes.exposition(more=figures.collect)().body.decode()
    samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
    return {
        tuple(value for label, value in sample.labels.items() if label not in labels): sample.value
        for sample in samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def condition(cluster: Cluster, kind: str, name: str, type_: str) -> dict:
    obj = cluster.get(kind, NAMESPACE, name)
    return next(one for one in obj["status"]["conditions"] if one["type"] == type_)


# --- services and rollouts ---------------------------------------------------------------------------


def test_a_service_that_is_not_ready_is_named_with_the_moment_and_the_reason():
    cluster = proven(pinned(begun(service())), "chat-1")
    ready = condition(cluster, *SERVICE[::2], "Ready")
    assert told(cluster, "modelops_inferenceservices") == {("True",): 0, ("False",): 1, ("Unknown",): 0}
    assert told(cluster, "modelops_inferenceservice_unready_since_timestamp_seconds", **CHAT) == {
        ("ApprovalMissing",): instant(ready["lastTransitionTime"])
    }


def test_a_service_that_is_ready_has_no_series_of_its_own():
    cluster = serving()
    assert told(cluster, "modelops_inferenceservices", ready="True") == {(): 1}
    assert told(cluster, "modelops_inferenceservice_unready_since_timestamp_seconds") == {}
    assert told(cluster, "modelops_rollout_held_since_timestamp_seconds") == {}


def test_a_service_that_waits_for_a_gpu_is_counted_by_the_reason():
    cluster = ready_to_start()
    taken = cluster.get("Node", "", "node-a")
    taken["status"]["allocatable"] = taken["status"]["capacity"] = {"nvidia.com/gpu": "1", "cpu": "16"}
    cluster.remove("Node", "", "node-b").put(taken, service("first"), service("second")).settle().run(5)
    assert told(cluster, "modelops_inferenceservices_unplaced") == {("WaitingForCapacity",): 1}
    cluster.put(node("node-c", "NVIDIA-L4", 23034, 2)).settle().run(5)
    assert told(cluster, "modelops_inferenceservices_unplaced") == {("WaitingForCapacity",): 0}


def test_rollouts_are_counted_by_phase_and_every_phase_has_a_series():
    found = told(at_step(20), "modelops_rollouts")
    assert {phase for (phase,) in found} == set(Phase)
    assert {phase: count for (phase,), count in found.items() if count} == {Phase.PROGRESSING: 1}


def test_a_rollout_that_waits_for_a_person_is_named_until_it_goes_on():
    cluster = at_step(20)
    run_id = cluster.rollout("chat").run_id
    name = "modelops_rollout_held_since_timestamp_seconds"
    assert told(cluster, name) == {}
    cluster.edit(*SERVICE, {"spec": {"rollout": {"action": "Pause", "runId": run_id}}}).settle()
    held = told(cluster, name, **CHAT)
    assert held == {("Paused",): cluster.rollout("chat").phase_at.timestamp()}
    cluster.edit(*SERVICE, {"spec": {"rollout": {"action": "Resume", "runId": run_id}}}).settle()
    assert told(cluster, name) == {}


def outcomes(cluster: Cluster) -> dict[str, float]:
    found = {name: count for (name,), count in told(cluster, "modelops_rollout_outcomes_total").items()}
    assert set(found) == set(OUTCOMES), "a series that begins at 1 is no increase"
    return {name: count for name, count in found.items() if count}


def test_a_promotion_counts_once():
    cluster = at_step(50).until("chat", Phase.BAKING).until("chat", Phase.STABLE).run(30)
    assert outcomes(cluster) == {"FirstServed": 1, "Promoted": 1}


def test_a_rollback_counts_once():
    cluster = at_step(20)
    cluster.traffic = Traffic(canary=WORSE)
    cluster.until("chat", Phase.ROLLED_BACK).run(30).resync()
    assert outcomes(cluster) == {"FirstServed": 1, "RolledBack": 1}
    assert list(told(cluster, "modelops_rollout_held_since_timestamp_seconds", **CHAT)) == [("RolledBack",)]


def test_a_rollback_out_of_the_bake_is_no_second_promotion():
    cluster = at_step(50).until("chat", Phase.BAKING)
    run_id = cluster.rollout("chat").run_id
    cluster.edit(*SERVICE, {"spec": {"rollout": {"action": "Abort", "runId": run_id}}}).settle().run(30)
    found = outcomes(cluster)
    assert found.pop("RolledBack") == 1
    assert found == {"FirstServed": 1, "Promoted": 1}


def test_what_a_start_of_the_operator_finds_is_no_outcome():
    assert outcomes(serving().again().settle()) == {}


def test_a_phase_of_a_row_of_another_kind_is_no_outcome():
    before = service_row(serving().get(*SERVICE))
    after = replace(before, phase=Phase.PAUSED)
    assert outcome(before, after) == "Paused"
    assert outcome(before, before) is None


# --- versions, approvals, the gate -------------------------------------------------------------------


def test_a_version_whose_bytes_failed_is_named_until_a_node_proves_them():
    cluster = approved(pinned(begun(service())))
    name = "modelops_modelversion_unproven_since_timestamp_seconds"
    labels = {"version_namespace": NAMESPACE, "version_name": "chat-1"}
    assert told(cluster, name) == {}
    cluster.put(model_node("node-a", artifact(phase="Failed", message="wanted 1a, found 9f"))).settle()
    since = condition(cluster, "ModelVersion", "chat-1", "IntegrityVerified")["lastTransitionTime"]
    assert told(cluster, name, **labels) == {(): instant(since)}
    assert told(cluster, "modelops_modelversions", phase="Quarantined") == {(): 1}
    proven(cluster, "chat-1")
    assert told(cluster, name) == {}
    assert told(cluster, "modelops_modelversions", phase="Quarantined") == {(): 0}


@pytest.mark.parametrize(
    ("gate_is_green", "wanted"),
    [(True, ("GateEnforced", "Trusted")), (False, ("GateNotProven", "Untrusted"))],
)
def test_approvals_are_counted_by_whether_the_gate_vouches_for_them(gate_is_green, wanted):
    cluster = approved(pinned(begun(gate_is_green=gate_is_green)))
    assert told(cluster, "modelops_modelapprovals") == {wanted: 1}


def test_an_approval_of_ones_own_version_is_counted_as_ignored():
    cluster = approved(pinned(begun()), by="author")
    assert told(cluster, "modelops_modelapprovals_ignored") == {("OwnVersion",): 1}
    assert told(serving(), "modelops_modelapprovals_ignored") == {("OwnVersion",): 0}


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        pytest.param(None, "NotProven", id="not asked yet"),
        pytest.param(GateState(GATE_SINCE, None), "Enforced", id="proven"),
        pytest.param(
            GateState(None, Reason("GateNotEnforced", "a policy is gone")), "NotEnforced", id="open"
        ),
        pytest.param(GateState(None, Reason("GateNotProven", "no answer")), "NotProven", id="no answer"),
    ],
)
def test_the_gate_is_in_one_state_and_a_missing_answer_is_not_an_open_gate(state, wanted):
    cluster = begun()
    cluster.observations.put(GATE, GATE_TOPIC, state)
    found = told(cluster, "modelops_approval_gate")
    assert {name for (name,), value in found.items() if value} == {wanted}
    assert len(found) == 3


# --- nodes -------------------------------------------------------------------------------------------


def gpus(cluster: Cluster, product: str) -> tuple[float, ...]:
    words = ("allocatable", "requested", "free", "unhealthy")
    return tuple(
        told(cluster, f"modelops_gpus_{word}", product=product, resource=GPU_RESOURCE)[()] for word in words
    )


def pod_of_others(name: str, node_name: str, count: int) -> Manifest:
    resources = {"requests": {"nvidia.com/gpu": str(count)}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "elsewhere"},
        "spec": {"nodeName": node_name, "containers": [{"name": "c", "resources": resources}]},
        "status": {"phase": "Running"},
    }


def test_gpus_are_told_by_product_and_those_of_a_cordoned_node_are_not_free():
    cluster = begun(pod_of_others("training", "node-a", 1))
    assert gpus(cluster, "NVIDIA-L4") == (2, 1, 1, 0)
    assert gpus(cluster, "Tesla-T4") == (1, 0, 1, 0)
    assert told(cluster, "modelops_node_ready") == {("node-a",): 1, ("node-b",): 1}
    cluster.edit("Node", "", "node-a", {"spec": {"unschedulable": True}})
    assert gpus(cluster, "NVIDIA-L4") == (2, 1, 0, 0)
    assert told(cluster, "modelops_node_ready") == {("node-a",): 0, ("node-b",): 1}


# --- what stands in a status by mistake --------------------------------------------------------------


def test_an_instant_that_is_none_spoils_no_other_series():
    cluster = proven(pinned(begun(service())), "chat-1")
    broken = cluster.get(*SERVICE)
    broken["status"]["conditions"][0]["lastTransitionTime"] = "yesterday"
    cluster.put(broken)
    assert told(cluster, "modelops_inferenceservice_unready_since_timestamp_seconds") == {}
    assert told(cluster, "modelops_inferenceservices", ready="False") == {(): 1}


def test_figures_that_cannot_be_made_hide_nothing_else(caplog):
    def broken():
        yield GaugeMetricFamily("half", "Half of it.", value=1)
        raise ZeroDivisionError

    before = REGISTRY.get_sample_value("modelops_figure_failures_total")
    text = probes.exposition(more=broken)().body.decode()
    assert "\nmodelops_leader " in text
    assert "\nhalf" not in text
    assert f"modelops_figure_failures_total {before + 1}" in text
    assert "figures: cannot be made" in caplog.text
