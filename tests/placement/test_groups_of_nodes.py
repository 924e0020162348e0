"""One replica on several nodes: each holds a stage of the layers, split over its own GPUs."""

from dataclasses import replace

import pytest

from modelops.engines.base import Ask
from modelops.engines.llamacpp import LlamaCpp
from modelops.engines.sglang import SGLang
from modelops.engines.vllm import VLLM
from modelops.placement.fit import Placement
from modelops.placement.memory import Verdict
from tests.placement.test_fit import LLAMA_70B, TINY, codes, demand, node, placed, refused

LLAMA_405B = replace(
    LLAMA_70B,
    name="llama-2",
    weights_bytes=811_706_777_600,
    layers=126,
    hidden_size=16384,
    attention_heads=128,
)
"""1.5 TiB of tensors' half: 756 GiB, more than eight H100 hold."""


def hosts(count, gpus=8, product="NVIDIA-H100"):
    return [node(f"h{number}", product, gpus) for number in range(count)]


def test_what_no_node_holds_fits_a_group_of_two():
    alone = refused(hosts(2), demand(LLAMA_405B, count=8))
    assert alone.reason.code == "NeverFits"
    found = placed(hosts(2), demand(LLAMA_405B, count=8, nodes=2))
    assert (found.node, found.members, found.nodes, found.gpus) == ("h0", ("h1",), 2, 8)
    assert found.verdict is Verdict.FITS
    assert found.message.startswith("chat: 2 nodes with 8 x NVIDIA-H100 with 78.9 GiB usable on h0, h1, fits")


@pytest.mark.parametrize("engine", [VLLM(), SGLang()], ids=lambda engine: engine.name)
def test_each_node_holds_its_share_of_layers_and_cache(engine):
    one, two = (engine.footprint(LLAMA_405B, Ask("chat", 8192, gpus=8, stages=stages)) for stages in (1, 2))
    assert one
    assert two
    embeddings = LLAMA_405B.vocabulary * LLAMA_405B.hidden_size * 2 // 8
    assert two.weights_bytes_per_gpu <= one.weights_bytes_per_gpu / 2 + 1.01 * embeddings + 1
    assert two.weights_bytes_per_gpu > one.weights_bytes_per_gpu / 2
    assert two.kv_bytes_per_token * 2 == one.kv_bytes_per_token


def test_the_smallest_number_of_gpus_in_each_node_is_chosen():
    found = placed(hosts(2), demand(LLAMA_70B, nodes=2))
    assert (found.gpus, found.nodes) == (2, 2), "four H100 in one node, two in each of two"


def test_a_group_takes_the_tightest_nodes_and_each_node_once_where_it_can():
    found = placed(hosts(4), demand(LLAMA_70B, count=2, nodes=2), used={"h0": 8, "h2": 6, "h3": 4})
    assert (found.node, found.members) == ("h2", ("h3",))


def test_nodes_of_a_group_may_differ_in_all_but_their_gpus():
    nodes = [
        replace(host, allocatable=host.allocatable | {"memory": 2**40 + i}) for i, host in enumerate(hosts(2))
    ]
    assert placed(nodes, demand(LLAMA_405B, count=8, nodes=2)).members == ("h1",)


def test_a_group_waits_for_a_node_that_is_not_ready():
    nodes = [*hosts(1), node("h1", "NVIDIA-H100", ready=False)]
    assert refused(nodes, demand(LLAMA_405B, count=8, nodes=2)).reason.code == "WaitingForCapacity"


def test_two_pods_of_a_group_share_a_node_where_no_other_has_room():
    found = placed(hosts(2), demand(LLAMA_70B, count=4, nodes=2), used={"h0": 8})
    assert (found.node, found.members) == ("h1", ("h1",))


@pytest.mark.parametrize(
    ("nodes", "used", "wanted", "code", "told"),
    [
        pytest.param(
            hosts(2),
            {"h1": 1},
            demand(LLAMA_405B, count=8, nodes=2),
            "WaitingForCapacity",
            "needs 2 nodes with 8 x NVIDIA-H100 with 78.9 GiB usable each, found room for fewer pods",
            id="one of the nodes is taken",
        ),
        pytest.param(
            hosts(1),
            {},
            demand(LLAMA_405B, count=8, nodes=2),
            "NeverFits",
            "found room for 1 such pods on all nodes of its kind",
            id="too few nodes",
        ),
        pytest.param(
            [node("a", "NVIDIA-H100"), node("b", "NVIDIA-H200")],
            {},
            demand(LLAMA_405B, count=8, nodes=2),
            "NeverFits",
            "found room for 1 such pods",
            id="nodes of two kinds are no group",
        ),
        pytest.param(
            hosts(2),
            {},
            demand(replace(LLAMA_70B, layers=1), count=2, nodes=2),
            "LayersNotEnough",
            "at most one stage per layer, found 2 for 1 layers",
            id="fewer layers than nodes",
        ),
        pytest.param(
            hosts(2),
            {},
            demand(TINY, context=2048, nodes=2),
            "NodesUnsupported",
            "LlamaCpp works on one node, found accelerator.nodes 2",
            id="an engine that works on one node",
        ),
    ],
)
def test_why_there_is_no_group(nodes, used, wanted, code, told):
    found = refused(nodes, wanted, used)
    assert found.reason.code == code
    assert told in found.reason.message


@pytest.mark.parametrize("strategy", ["time-slicing", "mps"])
def test_a_group_takes_no_shares(strategy):
    labels = {"nvidia.com/gpu.replicas": "2", "nvidia.com/gpu.sharing-strategy": strategy}
    nodes = [node(name, "NVIDIA-H100", 16, labels=labels) for name in "ab"]
    assert codes(refused(nodes, demand(LLAMA_70B, nodes=2))) == {"a": "GpuShared", "b": "GpuShared"}


def test_replicas_are_groups():
    found = placed(hosts(3), demand(LLAMA_405B, count=8, nodes=2, replicas=2))
    assert "; 1 of 2 replicas have a place now" in found.message


def test_a_group_is_kept_in_status():
    found = placed(hosts(2), demand(LLAMA_405B, count=8, nodes=2))
    assert Placement.from_status(found.to_status()) == found
    assert found.fill(Ask("chat")).stages == 2


def test_a_plan_for_one_node_says_nothing_of_groups():
    status = placed(hosts(1), demand(LLAMA_70B)).to_status()
    assert not {"nodes", "members"} & status.keys()


def test_the_ranks_of_an_engine_differ_in_their_number_and_in_who_answers():
    asked = Ask("chat", 8192, gpus=8, stages=2)
    vllm = VLLM().launch(LLAMA_405B, asked)
    assert vllm.args[-4:] == (
        "--nnodes=2",
        "--node-rank=0",
        "--master-addr=$(LWS_LEADER_ADDRESS)",
        "--master-port=29501",
    )
    assert set(vllm.worker_args) - set(vllm.args) == {"--node-rank=$(LWS_WORKER_INDEX)", "--headless"}
    sglang = SGLang().launch(LLAMA_405B, asked)
    at = sglang.args.index("--pp-size")
    assert sglang.args[at:] == (
        *("--pp-size", "2"),
        *("--nnodes", "2"),
        *("--node-rank", "0"),
        *("--dist-init-addr", "$(LWS_LEADER_ADDRESS):5000"),
    )
    assert set(sglang.worker_args) - set(sglang.args) == {"$(LWS_WORKER_INDEX)"}
    assert VLLM().launch(LLAMA_405B, replace(asked, stages=1)).worker_args == ()
    assert LlamaCpp().launch(TINY, Ask("chat", 2048)).worker_args == ()
