"""The situations of golden cases about what a pod computes on: slices, shares and groups of nodes.

``python -m tests.serving.shapes NAME...`` writes their givens, and missing ones; objects stand in them whole,
so that no other case changes with them.
"""

import sys
from typing import Any

from modelops.plan import Manifest
from tests.serving.cluster import FACTS, Cluster, last_words
from tests.serving.situations import (
    GOLDEN,
    Case,
    Situation,
    approved,
    artifact,
    given,
    model,
    model_node,
    namespace,
    node,
    policy,
    service,
    situation,
    text,
    version,
)

H100 = "NVIDIA-H100-80GB-HBM3"
SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
LLAMA = {
    **{key: FACTS[key] for key in ("uri", "license", "gated", "remoteCode", "pickle")},
    "format": "safetensors",
    "architecture": "LlamaForCausalLM",
    "parameters": 8_030_261_248,
    "weightsBytes": 16_060_522_496,
    "layers": 32,
    "hiddenSize": 4096,
    "attentionHeads": 32,
    "kvHeads": 8,
    "headDim": 128,
    "vocabulary": 128256,
    "contextTokens": 131072,
}
"""Llama-3.1-8B."""


def computer(name: str, labels: dict[str, str], amounts: dict[str, int]) -> Manifest:
    """Return a node with *amounts* of extended resources, which *labels* describe."""
    found = node(name, H100, 81559, 0)
    own = {"memory": "256Gi", "cpu": "64"} | {key: str(count) for key, count in amounts.items()}
    found["metadata"]["labels"] |= {"nvidia.com/gpu.compute.major": "9", **labels}
    found["status"] |= {"allocatable": own, "capacity": own}
    return found


def sliced(name: str, small: int = 7, large: int = 2) -> Manifest:
    """Return a node of strategy mixed with slices of two profiles."""
    labels = {"nvidia.com/mig.strategy": "mixed", "nvidia.com/gpu.replicas": "0"}
    for resource, memory_mib in ((SMALL, 9984), (LARGE, 40448)):
        profile = resource.removeprefix("nvidia.com/mig-")
        labels |= {f"{resource}.product": f"{H100}-MIG-{profile}", f"{resource}.memory": str(memory_mib)}
        labels |= {f"{resource}.replicas": "1", f"{resource}.sharing-strategy": "none"}
    return computer(name, labels, {"nvidia.com/gpu": 0, SMALL: small, LARGE: large})


def ready(facts: dict[str, Any], *nodes: Manifest) -> Cluster:
    """Return a cluster of *nodes* in which chat-1 holds *facts* and may run."""
    cluster = Cluster()
    cluster.put(*nodes, namespace(), model(), policy(), version()).settle()
    cluster.finish_job(last_words(facts=facts)).settle()
    cluster.put(model_node(nodes[0]["metadata"]["name"], artifact())).settle()
    return approved(cluster, "chat-1")


def asked(cluster: Cluster, accelerator: dict[str, Any] | None = None, **engine: Any) -> Case:
    wanted = {"name": "vLLM", "contextTokens": 8192, **engine}
    more = {"accelerator": accelerator} if accelerator else {}
    return Case(cluster.put(service(engine=wanted, **more)))


LARGE_LLAMA = {
    **LLAMA,
    "parameters": 405_853_388_800,
    "weightsBytes": 811_706_777_600,
    "layers": 126,
    "hiddenSize": 16384,
    "attentionHeads": 128,
}
"""Llama-3.1-405B in bf16: more than eight H100 hold."""


def hosts(count: int, product: str = H100, memory_mib: int = 81559) -> list[Manifest]:
    return [node(f"host-{number}", product, memory_mib, 8) for number in range(count)]


SHAPES: dict[str, Situation] = {}


def shape(make: Situation) -> Situation:
    SHAPES[make.__name__.replace("_", "-")] = make
    return situation(make)


@shape
def a_pod_asks_for_the_tightest_mig_slice_by_its_resource() -> Case:
    return asked(ready(LLAMA, sliced("node-m"), node("node-w", H100, 81559, 8)))


@shape
def a_slice_under_strategy_single_is_asked_for_as_a_whole_gpu() -> Case:
    labels = {
        "nvidia.com/mig.strategy": "single",
        "nvidia.com/gpu.product": f"{H100}-MIG-3g.40gb",
        "nvidia.com/gpu.memory": "40448",
    }
    cluster = ready(LLAMA, computer("node-s", labels, {"nvidia.com/gpu": 4}))
    return asked(cluster, {"partition": "3g.40gb", "products": [H100]})


@shape
def a_share_of_a_gpu_leaves_the_other_shares_their_memory() -> Case:
    labels = {"nvidia.com/gpu.replicas": "2", "nvidia.com/gpu.sharing-strategy": "time-slicing"}
    return asked(ready(LLAMA, computer("node-t", labels, {"nvidia.com/gpu.shared": 8})))


@shape
def gpus_that_work_together_are_refused_where_gpus_are_shared_or_cut_up() -> Case:
    labels = {
        "nvidia.com/gpu.product": f"{H100}-SHARED",
        "nvidia.com/gpu.replicas": "2",
        "nvidia.com/gpu.sharing-strategy": "mps",
    }
    shared = computer("node-p", labels, {"nvidia.com/gpu": 8})
    return asked(ready(LLAMA, sliced("node-m", small=0), shared), {"count": 2})


@shape
def a_fault_takes_the_slices_of_a_gpu_out_of_the_plan_and_says_so() -> Case:
    cluster = ready(LLAMA, sliced("node-m", small=0, large=2))
    broken, well = (
        {
            "index": index,
            "product": H100,
            "memoryBytes": 85_520_809_984,
            "healthy": index == 1,
            "migEnabled": True,
            "mig": [{"profile": "3g.40gb", "memoryBytes": 42_412_802_048, "freeBytes": 42_300_000_000}],
        }
        for index in (0, 1)
    )
    broken |= {"fault": "XID 79 (GPU has fallen off the bus)", "xid": 79}
    report = model_node("node-m", artifact())
    report["status"]["gpus"] = [broken, well]
    cluster.put(report).settle()
    return asked(cluster, {"partition": "3g.40gb"}, contextTokens=4096)


@shape
def a_model_larger_than_a_node_is_served_by_a_group_of_nodes() -> Case:
    return asked(ready(LARGE_LLAMA, *hosts(2)), {"nodes": 2, "count": 8}, contextTokens=4096)


@shape
def a_group_of_sglang_shares_the_layers_among_its_nodes() -> Case:
    cluster = ready(LARGE_LLAMA, *hosts(3, "NVIDIA-H200", 143771))
    return asked(cluster, {"nodes": 2, "count": 8}, name="SGLang")


@shape
def a_group_waits_until_all_of_its_nodes_are_free() -> Case:
    cluster = ready(LARGE_LLAMA, *hosts(2))
    taken = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "training", "namespace": "others"},
        "spec": {
            "nodeName": "host-1",
            "containers": [{"name": "train", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        },
        "status": {"phase": "Running"},
    }
    return asked(cluster.put(taken), {"nodes": 2, "count": 8}, contextTokens=4096)


def main() -> None:
    for name, make in SHAPES.items():
        path = GOLDEN / name / "given.yaml"
        if name in sys.argv[1:] or not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text(given(make())))
            print(name)


if __name__ == "__main__":
    main()
