"""Where a model goes, and what is said about every place it does not."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.engines.base import Ask, Facts, Footprint
from modelops.engines.custom import Custom
from modelops.engines.llamacpp import LlamaCpp
from modelops.engines.predictive import Predictive
from modelops.engines.vllm import VLLM
from modelops.placement.fit import Demand, Placement, Refusal, Rejected, choose
from modelops.placement.inventory import ModelNodeRow, NodeRow, PodUse, Taint, inventory
from modelops.placement.memory import Verdict, judge, usable_bytes
from modelops.plan import Reason

GIB = 2**30
MIB = 2**20
GPU = "nvidia.com/gpu"
LABELS_MIB = {"Tesla-T4": 15360, "NVIDIA-L4": 23034, "NVIDIA-H100": 81559, "NVIDIA-H200": 143771}

QWEN = Facts(
    name="qwen-1",
    format="safetensors",
    weights_bytes=15_231_233_024,
    layers=28,
    hidden_size=3584,
    attention_heads=28,
    kv_heads=4,
    head_dim=128,
    vocabulary=152064,
    context_tokens=131072,
)
LLAMA_70B = replace(
    QWEN,
    name="llama-1",
    weights_bytes=141_107_412_992,
    layers=80,
    hidden_size=8192,
    attention_heads=64,
    kv_heads=8,
    vocabulary=128256,
)
TINY = Facts(
    name="tiny-1",
    format="GGUF",
    weights_bytes=60 * MIB,
    layers=8,
    hidden_size=512,
    attention_heads=8,
    kv_heads=2,
    head_dim=64,
    vocabulary=384,
    context_tokens=2048,
    main_file="tiny.gguf",
)


def node(name, product="NVIDIA-L4", count=8, memory_mib=None, **changes):
    labels = {
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.memory": str(memory_mib or LABELS_MIB[product]),
        "nvidia.com/gpu.replicas": "1",
    }
    labels |= changes.pop("labels", {})
    return NodeRow(name, labels, {GPU: count, "memory": 64 * GIB}, {GPU: count}, **changes)


def demand(facts=QWEN, engine=None, context=8192, **changes):
    engine = engine or (LlamaCpp() if facts.format == "GGUF" else VLLM())
    ask = changes.pop("ask", Ask("chat", context_tokens=context))
    return Demand("chat", facts, engine, ask, **changes)


def placed(nodes, wanted=None, used=None, model_nodes=()) -> Placement:
    found = choose(_inventory(nodes, used, model_nodes), wanted or demand())
    assert isinstance(found, Placement), found
    return found


def refused(nodes, wanted=None, used=None, model_nodes=()) -> Refusal:
    found = choose(_inventory(nodes, used, model_nodes), wanted or demand())
    assert isinstance(found, Refusal), found
    return found


def _inventory(nodes, used=None, model_nodes=()):
    return inventory(nodes, [PodUse(name, {GPU: count}) for name, count in (used or {}).items()], model_nodes)


def codes(found):
    return {rejected.node: rejected.reason.code for rejected in found.rejected}


@pytest.mark.parametrize(
    ("nodes", "used", "wanted", "place"),
    [
        pytest.param(
            [node("big", "NVIDIA-H100"), node("small", "NVIDIA-L4")],
            {},
            demand(),
            ("small", 1),
            id="the smallest GPU that holds it",
        ),
        pytest.param(
            [node("a"), node("b")],
            {"b": 6},
            demand(),
            ("b", 1),
            id="among equals the node with the least left",
        ),
        pytest.param([node("b"), node("a")], {}, demand(), ("a", 1), id="among all equals the first by name"),
        pytest.param(
            [node("big", "NVIDIA-H100"), node("small", "NVIDIA-L4")],
            {"small": 8},
            demand(),
            ("big", 1),
            id="the next larger while the smallest is taken",
        ),
        pytest.param(
            [node("n", "NVIDIA-H100")],
            {},
            demand(LLAMA_70B),
            ("n", 4),
            id="as few GPUs as fit: 70B needs four H100",
        ),
        pytest.param(
            [node("n", "NVIDIA-H200")],
            {},
            demand(LLAMA_70B),
            ("n", 2),
            id="as few GPUs as fit: 70B needs two H200",
        ),
        pytest.param(
            [node("n", "Tesla-T4")],
            {},
            demand(),
            ("n", 2),
            id="28 heads and 4: two T4 do, three would not divide",
        ),
        pytest.param([node("n")], {}, demand(count=4), ("n", 4), id="as many GPUs as the user says"),
        pytest.param(
            [node("n"), node("m", "NVIDIA-H100")],
            {},
            demand(products=("nvidia-h100",)),
            ("m", 1),
            id="only products that are named, in any letter case",
        ),
        pytest.param(
            [node("n"), node("m", "NVIDIA-H100")],
            {},
            demand(min_memory_bytes=40 * GIB),
            ("m", 1),
            id="only GPUs of the least memory",
        ),
        pytest.param(
            [node("n"), node("m", labels={"pool": "ml"})],
            {},
            demand(node_selector={"pool": "ml"}),
            ("m", 1),
            id="only nodes with the label",
        ),
        pytest.param(
            [node("n"), node("m", labels={"topology.kubernetes.io/zone": "b"})],
            {},
            demand(zones=("b",)),
            ("m", 1),
            id="only nodes of the zone",
        ),
        pytest.param(
            [node("n", taints=(Taint("gpu", "only"),))],
            {},
            demand(tolerations=({"key": "gpu", "operator": "Exists"},)),
            ("n", 1),
            id="a taint that is tolerated",
        ),
        pytest.param(
            [node("n", taints=(Taint("gpu", "", "PreferNoSchedule"),))],
            {},
            demand(),
            ("n", 1),
            id="a mild taint",
        ),
        pytest.param(
            [node("one", count=1), node("two", count=4), node("h", "NVIDIA-H100")],
            {},
            demand(replicas=9),
            ("one", 1),
            id="no product holds nine replicas: the tightest counts",
        ),
        pytest.param(
            [node("one", count=1), node("h", "NVIDIA-H100")],
            {},
            demand(replicas=2),
            ("h", 1),
            id="a product with room for both replicas comes first",
        ),
        pytest.param([node("n")], {}, demand(TINY, context=None), ("n", 1), id="a tiny GGUF on llama.cpp"),
    ],
)
def test_the_tightest_place_is_chosen(nodes, used, wanted, place):
    found = placed(nodes, wanted, used)
    assert (found.node, found.gpus) == place
    assert found.verdict is Verdict.FITS


@pytest.mark.parametrize(
    ("nodes", "used", "wanted", "code", "at"),
    [
        pytest.param([], {}, demand(), "NeverFits", None, id="an empty cluster"),
        pytest.param([NodeRow("n")], {}, demand(), "NeverFits", "AcceleratorMissing", id="no GPU at all"),
        pytest.param(
            [node("n", count=1)],
            {},
            demand(LLAMA_70B),
            "NeverFits",
            "GpuTooSmall",
            id="every GPU is too small",
        ),
        pytest.param(
            [node("n", count=2)], {}, demand(count=4), "NeverFits", "TooFewGpus", id="too few on one node"
        ),
        pytest.param(
            [node("n")], {"n": 8}, demand(), "WaitingForCapacity", "NotEnoughFree", id="all are taken"
        ),
        pytest.param(
            [node("n", "NVIDIA-H100")],
            {"n": 5},
            demand(LLAMA_70B),
            "WaitingForCapacity",
            "NotEnoughFree",
            id="four are needed, three are free",
        ),
        pytest.param(
            [node("n", ready=False)],
            {},
            demand(),
            "WaitingForCapacity",
            "NodeNotReady",
            id="the node is not ready",
        ),
        pytest.param(
            [node("n", unschedulable=True)], {}, demand(), "WaitingForCapacity", "NodeCordoned", id="cordoned"
        ),
        pytest.param(
            [node("n", taints=(Taint("gpu", "only"),))],
            {},
            demand(),
            "NeverFits",
            "TaintNotTolerated",
            id="tainted",
        ),
        pytest.param(
            [node("n", ready=False, taints=(Taint("node.kubernetes.io/not-ready", "", "NoExecute"),))],
            {},
            demand(),
            "WaitingForCapacity",
            "NodeNotReady",
            id="a taint that the cluster lifts itself",
        ),
        pytest.param(
            [node("n")],
            {},
            demand(products=("NVIDIA-H100",)),
            "NeverFits",
            "ProductNotAllowed",
            id="other products",
        ),
        pytest.param(
            [node("n")],
            {},
            demand(node_selector={"pool": "ml"}),
            "NeverFits",
            "SelectorMismatch",
            id="no such label",
        ),
        pytest.param([node("n")], {}, demand(zones=("b",)), "NeverFits", "ZoneNotAllowed", id="no such zone"),
        pytest.param(
            [node("n")],
            {},
            demand(min_memory_bytes=40 * GIB),
            "NeverFits",
            "MemoryBelowMinimum",
            id="least memory",
        ),
        pytest.param(
            [
                node(
                    "n",
                    "NVIDIA-H100",
                    labels={
                        "nvidia.com/gpu.replicas": "2",
                        "nvidia.com/gpu.sharing-strategy": "time-slicing",
                    },
                )
            ],
            {},
            demand(count=2),
            "NeverFits",
            "GpuShared",
            id="two shares of a GPU give no more memory",
        ),
        pytest.param(
            [replace(node("n"), labels={})], {}, demand(), "NeverFits", "GpuUnknown", id="GPUs without labels"
        ),
        pytest.param([node("n")], {}, demand(TINY, VLLM()), "FormatUnsupported", None, id="the wrong engine"),
        pytest.param(
            [node("n")], {}, demand(count=3), "HeadsNotDivisible", None, id="a count that does not divide"
        ),
        pytest.param(
            [node("n")],
            {},
            demand(TINY, context=4096),
            "ContextTooLong",
            None,
            id="a context beyond the model's",
        ),
        pytest.param(
            [node("n")],
            {},
            demand(QWEN, Custom(), ask=Ask("chat", image="x/y:1")),
            "CountNeeded",
            None,
            id="Auto for a container that nobody knows",
        ),
        pytest.param(
            [node("n")], {}, demand(replace(QWEN, layers=None)), "CountNeeded", None, id="Auto without facts"
        ),
        pytest.param(
            [node("n")],
            {},
            demand(TINY, count=0, context=None),
            "GpuNeeded",
            None,
            id="no GPU, and no leave for CPUs",
        ),
    ],
)
def test_why_there_is_no_place(nodes, used, wanted, code, at):
    found = refused(nodes, wanted, used)
    assert found.reason.code == code
    assert codes(found) == ({"n": at} if at else {})
    for reason in (found.reason, *(rejected.reason for rejected in found.rejected)):
        assert "\n" not in reason.message
        assert "needs" in reason.message or "may be" in reason.message or "must" in reason.message
        assert "found" in reason.message or "largest candidate" in reason.message


def test_never_says_what_is_needed_and_what_the_largest_candidate_has():
    found = refused([node("n1", "Tesla-T4", 1), node("n2", count=1), NodeRow("cpu")], demand(LLAMA_70B))
    assert found.reason.message == (
        "chat: needs 1 x GPU with 155.8 GiB usable (weights 132.7 GiB, cache 2.5 GiB, overhead 1.2 GiB to "
        "8.1 GiB) for 8192 tokens, the largest candidate n2 has 1 x NVIDIA-L4 with 22.3 GiB usable; add a "
        "larger GPU, lower engine.contextTokens or engine.maxConcurrency, or use a smaller model"
    )
    assert [rejected.node for rejected in found.rejected] == ["n1", "n2", "cpu"], "nodes without a GPU last"
    assert "22.3 GiB usable, 1 of 1 free" in found.rejected[1].reason.message


def test_waiting_says_how_many_must_be_free_and_where():
    found = refused(
        [node("n1", "NVIDIA-H100"), node("n2", "NVIDIA-H100")], demand(LLAMA_70B), {"n1": 7, "n2": 6}
    )
    assert found.reason.message == (
        "chat: needs 4 x NVIDIA-H100 with 78.9 GiB usable on one node, found 2 of 8 free on n2; "
        "free 2 GPU there or add such a node"
    )


def test_a_place_tells_its_arithmetic_and_the_others_why_not():
    found = placed([node("n1"), node("n2", "NVIDIA-H100"), node("n3", "Tesla-T4", 1)])
    assert found.message == (
        "chat: 1 x NVIDIA-L4 with 22.3 GiB usable on n1, fits: weights 14.3 GiB, cache 448.9 MiB, overhead "
        "1.2 GiB to 2.2 GiB each; contexts of 8192 tokens, 9 of them whole at a time, up to 256 requests"
    )
    assert codes(found) == {"n2": "LooserFit", "n3": "GpuTooSmall"}


HEAVY = replace(LLAMA_70B, weights_bytes=68 * GIB)
"""Risky on one H100, certain on two."""


def test_a_risky_place_is_taken_where_no_node_could_be_better():
    found = placed([node("n", "NVIDIA-H100", 1), node("small")], demand(HEAVY, count=1))
    assert (found.node, found.verdict) == ("n", Verdict.RISKY)


def test_nothing_starts_at_a_risk_where_it_could_fit_for_certain():
    nodes = [node("one", "NVIDIA-H100", 1), node("two", "NVIDIA-H100", 2)]
    assert (placed(nodes, demand(HEAVY)).node, placed(nodes, demand(HEAVY)).gpus) == ("two", 2)
    found = refused(nodes, demand(HEAVY), {"two": 1})
    assert found.reason.code == "WaitingForCapacity"
    assert codes(found) == {"one": "RiskyFit", "two": "NotEnoughFree"}


@pytest.mark.parametrize(
    ("nodes", "facts", "context"),
    [
        pytest.param([node("n", "NVIDIA-H200")], QWEN, 131072, id="all of the model's where it fits"),
        pytest.param([node("n")], TINY, 2048, id="all of a small model's, for every slot"),
        pytest.param([node("n", count=1)], QWEN, 73728, id="as much as fits, in steps of 256"),
    ],
)
def test_a_context_that_nobody_named_is_chosen(nodes, facts, context):
    found = placed(nodes, demand(facts, context=None))
    assert found.context_tokens == context
    assert found.footprint is not None
    longer = found.footprint.kv_bytes_required + 256 * found.footprint.kv_bytes_per_token
    if context < (facts.context_tokens or 0):
        widest = judge(replace(found.footprint, kv_bytes_required=longer), found.gpu_memory_bytes)
        assert widest.verdict is not Verdict.FITS


def test_concurrency_is_the_users_or_the_engines():
    assert placed([node("n")], demand(TINY, context=512)).max_concurrency == 4
    assert placed([node("n")]).max_concurrency == 256
    asked = Ask("chat", context_tokens=512, max_concurrency=32)
    assert placed([node("n")], demand(TINY, ask=asked)).max_concurrency == 32


def test_broken_gpus_are_not_given_out():
    report = [ModelNodeRow("n", 8, 2)]
    assert placed([node("n")], demand(count=2), model_nodes=report).gpus == 2
    assert refused([node("n")], demand(count=4), model_nodes=report).reason.code == "WaitingForCapacity"


def test_waiting_names_the_fault_that_took_a_gpu_out():
    fault = "GPU 3: XID 79 (GPU has fallen off the bus)"
    report = ModelNodeRow("n", 4, 3, faults=(fault,))
    found = refused([node("n", count=4)], demand(count=4), model_nodes=[report])
    assert f"found 3 of 4 free ({fault}) on n; free 1 GPU there" in found.reason.message
    assert f"found 3 of 4 free ({fault}); free a GPU" in found.rejected[0].reason.message


def test_a_custom_container_gets_the_gpus_it_names():
    wanted = demand(QWEN, Custom(), ask=Ask("chat", image="x/y:1"), count=2)
    found = placed([replace(node("bare"), labels={}), node("n")], wanted, {"n": 8})
    assert (found.node, found.gpus, found.product, found.verdict) == ("bare", 2, "", Verdict.UNKNOWN)


@pytest.mark.parametrize(
    ("nodes", "used", "wanted", "where"),
    [
        pytest.param(
            [NodeRow("cpu", allocatable={"memory": 64 * GIB})], {}, demand(TINY), None, id="not allowed"
        ),
        pytest.param(
            [NodeRow("cpu", allocatable={"memory": 64 * GIB})],
            {},
            demand(TINY, cpu_fallback=True, context=2048),
            "cpu",
            id="no GPU can ever hold it",
        ),
        pytest.param(
            [NodeRow("cpu", allocatable={"memory": GIB})],
            {},
            demand(TINY, cpu_fallback=True),
            None,
            id="too little memory",
        ),
        pytest.param(
            [NodeRow("cpu", allocatable={"memory": 64 * GIB}), node("n")],
            {"n": 8},
            demand(TINY, cpu_fallback=True, context=2048),
            None,
            id="a GPU will be free one day",
        ),
        pytest.param(
            [NodeRow("cpu", allocatable={"memory": 64 * GIB}, ready=False)],
            {},
            demand(TINY, cpu_fallback=True),
            None,
            id="the node is not ready",
        ),
        pytest.param(
            [NodeRow("cpu", allocatable={"memory": 64 * GIB})],
            {},
            demand(QWEN, cpu_fallback=True),
            None,
            id="vLLM has no CPU image",
        ),
        pytest.param(
            [NodeRow("cpu")],
            {},
            demand(QWEN, Custom(), ask=Ask("chat", image="x/y:1"), count=0),
            "cpu",
            id="a custom container without GPUs",
        ),
    ],
)
def test_when_cpus_are_taken(nodes, used, wanted, where):
    wanted = replace(
        wanted, ask=replace(wanted.ask, context_tokens=min(wanted.ask.context_tokens or 2048, 2048))
    )
    found = choose(_inventory(nodes, used), wanted)
    assert (found.node if isinstance(found, Placement) else None) == where
    if isinstance(found, Placement):
        assert (found.gpus, found.gpu) == (0, None)


@pytest.mark.parametrize(
    ("nodes", "where"),
    [
        pytest.param([node("gpus", count=8), NodeRow("cpu")], "cpu", id="no GPU is taken from others"),
        pytest.param([node("gpus", count=8)], "gpus", id="CPUs of a node with GPUs will do"),
        pytest.param([NodeRow("cpu", ready=False)], None, id="no node takes pods"),
    ],
)
def test_an_engine_that_computes_on_cpus_looks_for_no_gpu(nodes, where):
    facts = Facts("churn-1", format="skops", main_file="m.skops")
    asked = Ask("churn", image="registry.example.com/predictive:1")
    found = choose(_inventory(nodes, {}), demand(facts, Predictive(), ask=asked, on_cpus=True))
    if where is None:
        assert isinstance(found, Refusal)
        assert found.reason.code == "NeverFits"
    else:
        assert isinstance(found, Placement)
        assert (found.node, found.gpus, found.context_tokens) == (where, 0, None)


def test_the_engine_is_started_with_what_was_chosen():
    found = placed([node("n", "NVIDIA-H200")], demand(context=None))
    ask = found.fill(Ask("chat", image="x/y:1"))
    assert (ask.context_tokens, ask.max_concurrency, ask.gpus, ask.image) == (131072, 256, 1, "x/y:1")
    assert ask.gpu is not None
    assert ask.gpu.memory_bytes == 143771 * MIB


def test_a_thousand_nodes_leave_twenty_reasons():
    found = refused([node(f"n{i}", count=1) for i in range(1000)], demand(LLAMA_70B))
    assert len(found.rejected) == 20


def test_a_refusal_in_status_has_its_reason_and_every_node():
    status = refused([node("n")], used={"n": 8}).to_status()
    assert (status["verdict"], status["reason"]) == ("no", "WaitingForCapacity")
    assert [row["node"] for row in status["rejected"]] == ["n"]


# --- laws --------------------------------------------------------------------------------------------

BYTES = st.integers(0, 2**53)
TEXT = st.text(min_size=1, max_size=12)
FOOTPRINTS = st.builds(
    Footprint,
    *[BYTES] * 6,
    st.integers(1, 2**20),
    st.integers(1, 2**10),
    st.integers(1, 100),
    st.text(max_size=9),
)
PLACEMENTS = st.builds(
    Placement,
    node=TEXT,
    product=st.text(max_size=12),
    gpus=st.integers(0, 64),
    gpu_memory_bytes=BYTES,
    context_tokens=st.none() | st.integers(1, 2**20),
    max_concurrency=st.none() | st.integers(1, 2**10),
    verdict=st.sampled_from(Verdict),
    footprint=st.none() | FOOTPRINTS,
    message=st.text(max_size=20),
    rejected=st.lists(
        st.builds(Rejected, TEXT, st.text(max_size=9), st.builds(Reason, TEXT, TEXT)), max_size=3
    ).map(tuple),
    capability=st.none() | st.tuples(st.integers(1, 20), st.integers(0, 20)),
    driver_major=st.none() | st.integers(1, 999),
    shares=st.integers(1, 16),
    is_time_sliced=st.booleans(),
    resource=st.sampled_from([GPU, "nvidia.com/mig-1g.10gb"]),
    basis=st.text(max_size=16),
)


@given(PLACEMENTS)
def test_a_placement_read_back_from_status_is_the_same(placement):
    assert Placement.from_status(json.loads(json.dumps(placement.to_status()))) == placement


@st.composite
def clusters(draw):
    nodes, used = [], {}
    for i in range(draw(st.integers(0, 5))):
        product = draw(st.sampled_from(sorted(LABELS_MIB)))
        shared = {"nvidia.com/gpu.replicas": "2", "nvidia.com/gpu.sharing-strategy": "time-slicing"}
        pool = {"pool": draw(st.sampled_from(["a", "b"]))}
        count = draw(st.integers(0, 8))
        nodes.append(
            node(
                f"n{i}",
                product,
                count,
                ready=draw(st.integers(0, 4)) > 0,
                unschedulable=draw(st.integers(0, 4)) == 0,
                taints=draw(st.sampled_from([(), (), (Taint("gpu", "only"),)])),
                labels={**pool, **(shared if draw(st.integers(0, 3)) == 0 else {})},
            )
        )
        used[f"n{i}"] = draw(st.integers(0, count))
    return nodes, used


DEMANDS = st.builds(
    lambda facts, count, products, selector, tolerations, context, least: demand(
        facts,
        count=count,
        products=products,
        node_selector=selector,
        tolerations=tolerations,
        context=context,
        min_memory_bytes=least,
    ),
    st.sampled_from([QWEN, LLAMA_70B, TINY]),
    st.sampled_from([None, None, 1, 2, 4]),
    st.sampled_from([(), (), ("NVIDIA-L4", "NVIDIA-H100")]),
    st.sampled_from([{}, {}, {"pool": "a"}]),
    st.sampled_from([(), ({"key": "gpu", "operator": "Exists"},)]),
    st.sampled_from([None, 1024, 2048]),
    st.sampled_from([None, None, 20 * GIB]),
)


@settings(max_examples=80, deadline=None)
@given(clusters(), DEMANDS)
def test_the_chosen_node_satisfies_every_wish_and_has_the_room(cluster, wanted):
    nodes, used = cluster
    found = choose(_inventory(nodes, used), wanted)
    if isinstance(found, Refusal):
        assert found.reason.message.startswith(("chat: ", f"{wanted.facts.name}: "))
        return
    row = next(row for row in nodes if row.name == found.node)
    assert row.ready
    assert not row.unschedulable
    assert found.product == row.labels["nvidia.com/gpu.product"]
    assert not wanted.products or found.product in wanted.products
    assert wanted.node_selector.items() <= row.labels.items()
    assert not row.taints or wanted.tolerations
    assert 1 <= found.gpus <= row.allocatable[GPU] - used[row.name]
    assert wanted.count in (None, found.gpus)
    assert wanted.min_memory_bytes is None or found.gpu_memory_bytes >= wanted.min_memory_bytes
    assert wanted.engine.refuses(wanted.facts, found.fill(wanted.ask)) is None
    shares = int(row.labels["nvidia.com/gpu.replicas"])
    assert found.gpu_memory_bytes == LABELS_MIB[found.product] * MIB // shares
    assert shares == 1 or found.gpus == 1
    footprint = wanted.engine.footprint(wanted.facts, found.fill(wanted.ask))
    assert footprint == found.footprint
    assert footprint is not None
    taken = footprint.weights_bytes_per_gpu + footprint.overhead_low_bytes + footprint.kv_bytes_required
    assert taken <= usable_bytes(found.gpu_memory_bytes) * footprint.memory_percent // 100
    assert {found.node} | {rejected.node for rejected in found.rejected} == {row.name for row in nodes}


@settings(max_examples=80, deadline=None)
@given(
    facts=st.sampled_from([QWEN, LLAMA_70B, TINY]),
    count=st.integers(1, 8),
    memory_mib=st.integers(1, 200_000),
    more_mib=st.integers(0, 100_000),
)
def test_more_memory_never_turns_a_place_into_none(facts, count, memory_mib, more_mib):
    order = [Verdict.NO, Verdict.RISKY, Verdict.FITS]

    def look(mib):
        found = choose(_inventory([node("n", count=count, memory_mib=mib)]), demand(facts, context=2048))
        return found if isinstance(found, Placement) else None

    less, more = look(memory_mib), look(memory_mib + more_mib)
    if less:
        assert more
        assert order.index(less.verdict) <= order.index(more.verdict)
        assert more.gpus <= less.gpus or more.verdict is not less.verdict
