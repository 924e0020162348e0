"""What is read of nodes, pods and ModelNodes, and what it adds up to."""

from dataclasses import replace

import pytest

from modelops.engines.base import Gpu
from modelops.placement.inventory import (
    ModelNodeRow,
    NodeRow,
    PodUse,
    Taint,
    Toleration,
    inventory,
    pod_requests,
)

MIB = 2**20
GPU = "nvidia.com/gpu"
LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-L4",
    "nvidia.com/gpu.memory": "23034",
    "nvidia.com/gpu.count": "8",
    "nvidia.com/gpu.replicas": "1",
    "nvidia.com/gpu.sharing-strategy": "none",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
    "nvidia.com/cuda.driver-version.major": "580",
}
NODE = NodeRow("n1", LABELS, {GPU: 8, "memory": 2**34}, {GPU: 8})


def state(node=NODE, pods=(), model_nodes=()):
    return inventory([node], pods, model_nodes).nodes[0]


def labelled(**labels):
    return replace(NODE, labels={**LABELS, **{f"nvidia.com/gpu.{key}": text for key, text in labels.items()}})


def test_a_gpu_is_what_its_labels_say():
    assert state().gpu == Gpu("NVIDIA-L4", 23034 * MIB, (8, 9), 580)


@pytest.mark.parametrize(
    ("node", "memory_mib", "is_time_sliced"),
    [
        pytest.param(
            labelled(replicas="4", **{"sharing-strategy": "time-slicing"}), 5758, True, id="time slices"
        ),
        pytest.param(labelled(replicas="4", **{"sharing-strategy": "mps"}), 5758, False, id="MPS"),
        pytest.param(
            labelled(replicas="4", product="NVIDIA-L4-SHARED"), 5758, True, id="told by the product"
        ),
        pytest.param(labelled(replicas="4"), 23034, False, id="replicas without sharing"),
    ],
)
def test_memory_is_divided_where_it_is_shared(node, memory_mib, is_time_sliced):
    gpu = state(node).gpu
    assert gpu is not None
    assert (gpu.memory_bytes // MIB, gpu.is_time_sliced) == (memory_mib, is_time_sliced)


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({}, id="none"),
        pytest.param({"nvidia.com/gpu.product": "NVIDIA-L4"}, id="no memory"),
        pytest.param(
            {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "much"}, id="no number"
        ),
    ],
)
def test_a_gpu_without_labels_is_not_known(labels):
    assert state(replace(NODE, labels=labels)).gpu is None


def test_memory_that_no_label_tells_comes_from_the_agent():
    node = replace(NODE, labels={"nvidia.com/gpu.product": "NVIDIA-L4"})
    gpu = state(node, (), [ModelNodeRow("n1", 8, 8, memory_bytes=MIB)]).gpu
    assert gpu is not None
    assert gpu.memory_bytes == MIB


def test_free_is_allocatable_without_what_pods_took():
    found = state(NODE, [PodUse("n1", {GPU: 2}), PodUse("n1", {GPU: 1}), PodUse("n2", {GPU: 4})])
    assert (found.total(GPU), found.free(GPU)) == (8, 5)


def test_free_is_never_negative():
    assert state(NODE, [PodUse("n1", {GPU: 9})]).free(GPU) == 0


@pytest.mark.parametrize(
    ("allocatable", "healthy", "free"),
    [
        pytest.param(8, 8, 8, id="all healthy"),
        pytest.param(8, 6, 6, id="two broken that the node still offers"),
        pytest.param(6, 6, 6, id="two broken that the node took out itself"),
        pytest.param(7, 6, 6, id="two broken, one of them taken out"),
    ],
)
def test_broken_gpus_are_not_free(allocatable, healthy, free):
    node = replace(NODE, allocatable={GPU: allocatable})
    assert state(node, (), [ModelNodeRow("n1", 8, healthy)]).free(GPU) == free


@pytest.mark.parametrize(
    ("node", "report", "code", "is_passing"),
    [
        pytest.param(NODE, None, None, False, id="a good node"),
        pytest.param(replace(NODE, ready=False), None, "NodeNotReady", True, id="not ready"),
        pytest.param(replace(NODE, unschedulable=True), None, "NodeCordoned", True, id="cordoned"),
        pytest.param(labelled(product="NVIDIA-A100-MIG-1g.5gb"), None, None, False, id="MIG, single"),
        pytest.param(
            labelled(product="NVIDIA-A100-MIG-INVALID", memory="0"),
            None,
            "MigInvalid",
            True,
            id="MIG, single, on GPUs that are not cut alike",
        ),
        pytest.param(
            replace(NODE, allocatable={"nvidia.com/mig-1g.10gb": 7}), None, None, False, id="MIG, mixed"
        ),
        pytest.param(
            replace(NODE, allocatable={GPU: 1, "nvidia.com/mig-1g.10gb": 7}),
            None,
            None,
            False,
            id="a whole one left",
        ),
        pytest.param(
            NODE, ModelNodeRow("n1", 8, 0, faults=("GPU 0: XID 79",)), "GpusUnhealthy", True, id="all broken"
        ),
        pytest.param(NODE, ModelNodeRow("n1", 8, 1), None, False, id="one healthy"),
    ],
)
def test_why_a_node_cannot_be_used(node, report, code, is_passing):
    found = state(node, (), [report] if report else [])
    assert (found.unusable and found.unusable.code) == code
    assert found.is_passing is is_passing


def test_a_node_is_read_from_the_cluster():
    manifest = {
        "metadata": {"name": "n1", "labels": LABELS},
        "spec": {"unschedulable": True, "taints": [{"key": "gpu", "value": "only", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": {"cpu": "3920m", "memory": "16Gi", GPU: "8", "pods": "110"},
            "capacity": {GPU: "8"},
            "conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": "True"}],
        },
    }
    assert NodeRow.read(manifest) == NodeRow(
        "n1", LABELS, {"memory": 2**34, GPU: 8}, {GPU: 8}, True, (Taint("gpu", "only"),), True
    )


@pytest.mark.parametrize(
    ("conditions", "is_ready"),
    [
        pytest.param([{"type": "Ready", "status": "Unknown"}], False, id="the kubelet fell silent"),
        pytest.param([], False, id="a node that never reported"),
    ],
)
def test_a_node_that_does_not_say_so_is_not_ready(conditions, is_ready):
    assert NodeRow.read({"metadata": {"name": "n"}, "status": {"conditions": conditions}}).ready is is_ready


@pytest.mark.parametrize(
    ("spec", "phase", "is_read"),
    [
        pytest.param({"nodeName": "n1"}, "Running", True, id="running"),
        pytest.param({"nodeName": "n1"}, "Pending", True, id="bound and pulling"),
        pytest.param({"nodeName": "n1"}, "Succeeded", False, id="ended well"),
        pytest.param({"nodeName": "n1"}, "Failed", False, id="ended badly"),
        pytest.param({}, "Pending", False, id="not bound"),
    ],
)
def test_only_pods_that_are_bound_and_have_not_ended_take_anything(spec, phase, is_read):
    pod = {
        "metadata": {"name": "p", "namespace": "a", "labels": {"s": "chat", "r": "1234"}},
        "spec": {**spec, "containers": [{"resources": {"limits": {GPU: "2"}}}]},
        "status": {"phase": phase},
    }
    use = PodUse.read(pod, service_label="s", revision_label="r")
    assert use == (PodUse("n1", {GPU: 2}, "a", "p", "chat", "1234") if is_read else None)


def container(gpus, **more):
    return {"resources": {"limits": {GPU: str(gpus)}, "requests": {"cpu": "1"}}, **more}


@pytest.mark.parametrize(
    ("spec", "gpus"),
    [
        pytest.param({"containers": [container(1), container(2)]}, 3, id="containers add up"),
        pytest.param(
            {"initContainers": [container(4)], "containers": [container(1)]}, 4, id="the largest first step"
        ),
        pytest.param(
            {"initContainers": [container(1, restartPolicy="Always")], "containers": [container(1)]},
            2,
            id="a sidecar stays beside the rest",
        ),
        pytest.param({"containers": [{}]}, 0, id="nothing"),
    ],
)
def test_what_a_pod_takes(spec, gpus):
    assert pod_requests(spec).get(GPU, 0) == gpus


def reported(*gpus):
    numbered = [
        {"index": index, "memoryBytes": 100, "healthy": True, **gpu} for index, gpu in enumerate(gpus)
    ]
    return ModelNodeRow.read({"metadata": {"name": "n1"}, "status": {"gpus": numbered}})


def test_a_model_node_is_read_from_its_status():
    row = reported({"memoryBytes": 200}, {"healthy": False, "fault": "XID 79 (GPU has fallen off the bus)"})
    faults = ("GPU 1: XID 79 (GPU has fallen off the bus)",)
    assert row == ModelNodeRow("n1", 2, 1, 100, faults)
    assert ModelNodeRow.read({"metadata": {"name": "n1"}, "status": {}}) is None


@pytest.mark.parametrize(
    ("gpus", "idle"),
    [
        pytest.param([{"freeBytes": 97}, {"freeBytes": 90}], 2, id="the driver keeps a little"),
        pytest.param([{"freeBytes": 97}, {"freeBytes": 89}], 1, id="one is held"),
        pytest.param([{"freeBytes": 97}, {"freeBytes": 97, "healthy": False}], 1, id="one is broken"),
        pytest.param([{"freeBytes": 97}, {}], None, id="one does not tell"),
        pytest.param([{"freeBytes": 97}, {"healthy": False, "memoryBytes": None}], 1, id="one is lost"),
        pytest.param([{"freeBytes": 97}, {"freeBytes": 0, "migEnabled": True}], 1, id="one is cut up"),
    ],
)
def test_a_gpu_is_idle_when_nobody_holds_its_memory(gpus, idle):
    row = reported(*gpus)
    assert row is not None
    assert row.idle == idle


def test_slices_and_islands_are_kept():
    cut = {
        "migEnabled": True,
        "mig": [{"profile": "1g.10gb"}, {"profile": "1g.10gb"}, {"profile": "3g.40gb"}],
    }
    row = reported(cut, {"nvlinkIsland": 0}, {"nvlinkIsland": 1}, {"nvlinkIsland": 1}, {})
    assert row is not None
    assert (row.gpus, row.slices, row.islands) == (4, {"1g.10gb": 2, "3g.40gb": 1}, (2, 1))


def test_a_gpu_whose_memory_others_hold_is_not_free():
    report = ModelNodeRow("n1", 8, 8, idle=5)
    assert state(NODE, (), [report]).free(GPU) == 5
    assert state(NODE, [PodUse("n1", {GPU: 2})], [report]).free(GPU) == 5, "a pod may hold what is not idle"
    assert state(NODE, [PodUse("n1", {GPU: 6})], [report]).free(GPU) == 2, "or hold nothing yet"


def test_a_promise_takes_of_what_is_idle():
    found = state(NODE, (), [ModelNodeRow("n1", 8, 8, idle=5)])
    assert found.taking({GPU: 2}).free(GPU) == 3
    assert found.taking({GPU: 2}).taking({GPU: 4}).free(GPU) == 0


def test_memory_that_sharers_hold_says_nothing_of_the_next_share():
    node = labelled(replicas="4", **{"sharing-strategy": "time-slicing"})
    found = state(replace(node, allocatable={GPU: 32}), (), [ModelNodeRow("n1", 8, 8, idle=0)])
    assert found.free(GPU) == 32


def test_what_is_not_free_is_told_with_its_cause():
    fault = "GPU 3: XID 79 (GPU has fallen off the bus)"
    report = ModelNodeRow("n1", 8, 7, faults=(fault,), idle=4)
    assert state(NODE, (), [report]).free_of_total(GPU) == (
        f"4 of 8 free ({fault}; memory of 3 is held by others than pods that asked for a GPU)"
    )
    assert state(NODE, [PodUse("n1", {GPU: 2})]).free_of_total(GPU) == "6 of 8 free"
    assert state(NODE, (), [report]).free_of_total("memory") == f"{2**34} of {2**34} free"


def test_a_node_all_of_whose_gpus_are_broken_says_why():
    faults = ("GPU 0: lost", "GPU 1: ECC: 2 uncorrected memory errors")
    found = state(NODE, (), [ModelNodeRow("n1", 2, 0, faults=faults)])
    assert found.unusable is not None
    assert found.unusable.message == (
        "n1: needs a healthy GPU, found 0 of 2 (GPU 0: lost; GPU 1: ECC: 2 uncorrected memory errors); "
        "see kubectl get modelnode n1 -o yaml"
    )


def test_of_many_faults_the_first_are_told():
    faults = tuple(f"GPU {index}: lost" for index in range(8))
    told = state(NODE, (), [ModelNodeRow("n1", 8, 0, faults=faults)]).free_of_total(GPU)
    assert told == "0 of 8 free (GPU 0: lost; GPU 1: lost; GPU 2: lost; and 5 more)"


def test_a_node_that_mig_cut_up_wholly_is_not_called_broken():
    found = state(NODE, (), [ModelNodeRow("n1", 0, 0)])
    assert found.unusable is None


@pytest.mark.parametrize(
    ("toleration", "covers"),
    [
        pytest.param({"key": "gpu", "value": "only", "effect": "NoSchedule"}, True, id="the very taint"),
        pytest.param({"key": "gpu", "operator": "Exists"}, True, id="any value and effect"),
        pytest.param({"operator": "Exists"}, True, id="anything"),
        pytest.param({"key": "gpu", "value": "other"}, False, id="another value"),
        pytest.param({"key": "other", "operator": "Exists"}, False, id="another key"),
        pytest.param({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False, id="another effect"),
    ],
)
def test_what_a_toleration_covers(toleration, covers):
    assert Toleration.read(toleration).covers(Taint("gpu", "only", "NoSchedule")) is covers
