"""MIG slices, shares by time-slicing and MPS, and NVLink: what a pod asks for, and what it gets.

Labels and resources are written as NVIDIA's device plugin and GPU feature discovery 0.20 write them:
research/engines.md 5.1 and 5.2.
"""

from dataclasses import replace

import pytest

from modelops.engines.vllm import VLLM
from modelops.placement.demand import Sharing
from modelops.placement.devices import Device, devices, product_label, profile_of
from modelops.placement.fit import Placement, choose
from modelops.placement.inventory import ModelNodeRow, NodeRow, PodUse, inventory
from modelops.placement.memory import Verdict
from modelops.placement.reservations import Reservation, reserve
from tests.placement.test_fit import LLAMA_70B, QWEN, TINY, codes, demand, node, placed, refused

GPU = "nvidia.com/gpu"
SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
H100 = "NVIDIA-H100-80GB-HBM3"
MIB, GIB = 2**20, 2**30


def tiny(**changes):
    return demand(TINY, context=2048, **changes)


CHIP = {
    "nvidia.com/gpu.product": H100,
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.replicas": "0",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/mig.strategy": "mixed",
}
"""Of whole GPUs; they are there also where all are cut up."""


def slice_labels(resource, memory_mib, *, replicas="1", strategy="none", end=""):
    profile = resource.removeprefix("nvidia.com/mig-")
    return {
        f"{resource}.product": f"{H100}-MIG-{profile}{end}",
        f"{resource}.memory": str(memory_mib),
        f"{resource}.replicas": replicas,
        f"{resource}.sharing-strategy": strategy,
    }


MIXED_LABELS = {**CHIP, **slice_labels(SMALL, 9984), **slice_labels(LARGE, 40448)}


def mixed(name="mixed", whole=0, small=7, large=2, labels=MIXED_LABELS):
    amounts = {GPU: whole, SMALL: small, LARGE: large, "memory": 64 * GIB}
    return NodeRow(name, labels, amounts, amounts)


def single(name="single", count=14, memory_mib=9984):
    labels = CHIP | {
        "nvidia.com/gpu.product": f"{H100}-MIG-1g.10gb",
        "nvidia.com/gpu.memory": str(memory_mib),
        "nvidia.com/mig.strategy": "single",
    }
    amounts = {GPU: count, "memory": 64 * GIB}
    return NodeRow(name, labels, amounts, amounts)


def shared(name="shared", strategy="time-slicing", *, resource=GPU, replicas=4, product=None):
    plain = product or ("NVIDIA-H100" if resource != GPU else "NVIDIA-H100-SHARED")
    labels = {
        "nvidia.com/gpu.product": plain,
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.replicas": str(replicas),
        "nvidia.com/gpu.sharing-strategy": strategy,
    }
    amounts = {resource: 2 * replicas}
    return NodeRow(name, labels, amounts, amounts)


# --- labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "found"),
    [
        pytest.param(node("n"), {GPU: (23034, 1, "")}, id="whole GPUs"),
        pytest.param(
            mixed(whole=2),
            {GPU: (81559, 1, ""), SMALL: (9984, 1, "1g.10gb"), LARGE: (40448, 1, "3g.40gb")},
            id="mixed: whole ones and slices side by side",
        ),
        pytest.param(single(), {GPU: (9984, 1, "1g.10gb")}, id="single: the plain resource counts slices"),
        pytest.param(shared(), {GPU: (81559 / 4, 4, "")}, id="time slices"),
        pytest.param(shared(strategy="mps"), {GPU: (81559 / 4, 4, "")}, id="MPS"),
        pytest.param(
            shared(resource="nvidia.com/gpu.shared"),
            {GPU: (81559, 1, ""), "nvidia.com/gpu.shared": (81559 / 4, 4, "")},
            id="shares under a name of their own",
        ),
        pytest.param(
            mixed(
                labels=CHIP
                | slice_labels(SMALL, 9984, replicas="2", strategy="time-slicing", end="-SHARED")
                | slice_labels(LARGE, 40448)
            ),
            {GPU: (81559, 1, ""), SMALL: (9984 / 2, 2, "1g.10gb"), LARGE: (40448, 1, "3g.40gb")},
            id="slices in shares",
        ),
        pytest.param(
            NodeRow(
                "n",
                CHIP | slice_labels(SMALL, 9984, replicas="2", strategy="time-slicing"),
                {SMALL + ".shared": 14},
            ),
            {GPU: (81559, 1, ""), SMALL + ".shared": (9984 / 2, 2, "1g.10gb")},
            id="slices in shares under a name of their own",
        ),
        pytest.param(mixed(labels=CHIP), {GPU: (81559, 1, ""), SMALL: None, LARGE: None}, id="no labels"),
    ],
)
def test_what_a_node_offers(row, found):
    seen = {
        device.resource: device.gpu
        and (device.gpu.memory_bytes / MIB, device.gpu.shares, device.profile or "")
        for device in devices(row.labels, row.allocatable)
    }
    assert seen == found


def test_the_memory_of_a_whole_gpu_is_never_taken_for_that_of_a_slice():
    bare = {"nvidia.com/gpu.product": f"{H100}-MIG-1g.10gb"}
    assert devices(bare, {GPU: 7}, memory_bytes=80 * GIB) == (Device(GPU, None, "1g.10gb"),)
    assert devices({"nvidia.com/gpu.product": H100}, {GPU: 7}, 80 * GIB)[0].gpu is not None


@pytest.mark.parametrize(
    ("resource", "product", "profile", "label"),
    [
        (GPU, H100, "", "nvidia.com/gpu.product"),
        (GPU, f"{H100}-MIG-1g.10gb-SHARED", "1g.10gb", "nvidia.com/gpu.product"),
        (SMALL, f"{H100}-MIG-1g.10gb", "1g.10gb", f"{SMALL}.product"),
        (SMALL + ".shared", f"{H100}-MIG-1g.10gb", "1g.10gb", f"{SMALL}.product"),
        ("nvidia.com/mig-1g.10gb.me", f"{H100}-MIG-1g.10gb.me", "1g.10gb+me", None),
        ("nvidia.com/gpu.shared", H100, "", "nvidia.com/gpu.product"),
    ],
)
def test_which_profile_and_which_label_belong_to_a_resource(resource, product, profile, label):
    assert profile_of(resource, product) == profile
    assert label is None or product_label(resource) == label


# --- slices ------------------------------------------------------------------------------------------


def place(found):
    assert isinstance(found, Placement), found
    return found.node, found.resource, found.gpus, found.product


@pytest.mark.parametrize(
    ("nodes", "wanted", "where"),
    [
        pytest.param(
            [mixed(whole=8), node("l4")],
            tiny(),
            ("mixed", SMALL, 1, f"{H100}-MIG-1g.10gb"),
            id="the smallest slice that holds it, before any whole GPU",
        ),
        pytest.param(
            [mixed(whole=8)],
            demand(QWEN),
            ("mixed", LARGE, 1, f"{H100}-MIG-3g.40gb"),
            id="a larger slice where the small one is too small",
        ),
        pytest.param(
            [mixed(whole=8)],
            demand(LLAMA_70B),
            ("mixed", GPU, 4, H100),
            id="whole GPUs where no slice holds it",
        ),
        pytest.param(
            [mixed(whole=8)],
            tiny(partition="3g.40gb"),
            ("mixed", LARGE, 1, f"{H100}-MIG-3g.40gb"),
            id="the profile that the user names",
        ),
        pytest.param(
            [single(), node("l4")],
            tiny(partition="1g.10gb"),
            ("single", GPU, 1, f"{H100}-MIG-1g.10gb"),
            id="the same profile under strategy single",
        ),
        pytest.param(
            [mixed(whole=8)],
            tiny(resource_name=LARGE),
            ("mixed", LARGE, 1, f"{H100}-MIG-3g.40gb"),
            id="a resource by name",
        ),
        pytest.param(
            [mixed(whole=8)],
            tiny(resource_name=GPU),
            ("mixed", GPU, 1, H100),
            id="whole GPUs by name",
        ),
        pytest.param(
            [mixed(whole=8)],
            tiny(products=(H100,)),
            ("mixed", GPU, 1, H100),
            id="a product names whole GPUs",
        ),
        pytest.param(
            [mixed(whole=8)],
            tiny(products=(H100,), partition="1g.10gb"),
            ("mixed", SMALL, 1, f"{H100}-MIG-1g.10gb"),
            id="and slices of them where a profile is asked for",
        ),
        pytest.param(
            [mixed(small=0, whole=8), single()],
            tiny(replicas=3),
            ("single", GPU, 1, f"{H100}-MIG-1g.10gb"),
            id="a kind with room for every replica",
        ),
    ],
)
def test_where_slices_are_taken(nodes, wanted, where):
    assert place(placed(nodes, wanted)) == where


@pytest.mark.parametrize(
    ("nodes", "wanted", "code", "told"),
    [
        pytest.param(
            [mixed()],
            tiny(partition="2g.20gb"),
            "PartitionNotOffered",
            "needs MIG slice 2g.20gb, found slices 1g.10gb, 3g.40gb; ",
            id="a profile that nobody cut",
        ),
        pytest.param(
            [node("n")],
            tiny(partition="1g.10gb"),
            "PartitionNotOffered",
            "found no MIG slice",
            id="no slices at all",
        ),
        pytest.param(
            [mixed(large=0, small=7)],
            demand(QWEN),
            "GpuTooSmall",
            f"found {H100}-MIG-1g.10gb with 9.7 GiB usable, 7 of 7 free",
            id="slices that are too small",
        ),
        pytest.param(
            [mixed(large=2, small=0)],
            demand(QWEN, count=2),
            "GpuSliced",
            "needs 2 GPUs that work together, found slices 3g.40gb of MIG, each of which works alone",
            id="two slices never work together",
        ),
        pytest.param(
            [mixed(large=0, labels=CHIP)],
            tiny(),
            "GpuUnknown",
            f"needs the labels {SMALL}.product and {SMALL}.memory",
            id="slices without labels",
        ),
    ],
)
def test_why_no_slice_will_do(nodes, wanted, code, told):
    found = refused(nodes, wanted)
    assert found.reason.code == "NeverFits"
    (rejected,) = found.rejected
    assert rejected.reason.code == code
    assert told in rejected.reason.message


def test_the_other_devices_of_a_node_are_told_with_their_products():
    found = placed([mixed(whole=8)], demand(QWEN))
    assert [(row.node, row.product, row.reason.code) for row in found.rejected] == [
        ("mixed", H100, "LooserFit"),
        ("mixed", f"{H100}-MIG-1g.10gb", "GpuTooSmall"),
    ]


def test_slices_that_pods_took_are_not_free():
    use = [PodUse("mixed", {SMALL: 6}), PodUse("mixed", {LARGE: 2})]
    state = inventory([mixed(whole=1)], use).nodes[0]
    assert (state.free(SMALL), state.free(LARGE), state.free(GPU)) == (1, 0, 1)
    found = choose(inventory([mixed()], [PodUse("mixed", {SMALL: 7})]), tiny(partition="1g.10gb"))
    assert found.to_status()["message"] == (
        f"chat: needs 1 x {H100}-MIG-1g.10gb with 9.7 GiB usable on one node, found 0 of 7 free on mixed; "
        "free 1 GPU there or add such a node"
    )


def test_slices_of_planned_pods_are_promised():
    wanted = Reservation("team/chat", "aa", "mixed", f"{H100}-MIG-1g.10gb", SMALL, 1, 9)
    found = reserve(inventory([mixed(), mixed("other")], ()), [wanted])
    assert [state.free(SMALL) for state in found.nodes] == [0, 5]


def test_an_engine_is_told_of_the_memory_of_its_slice():
    found = placed([mixed()], demand(QWEN))
    assert (found.gpu_memory_bytes, found.shares, found.capability) == (40448 * MIB, 1, (9, 0))
    assert found.footprint is not None
    launch = VLLM().launch(QWEN, found.fill(demand().ask))
    assert "--gpu-memory-utilization=0.92" in launch.args, "a slice is all that the engine sees"


# --- health ------------------------------------------------------------------------------------------


def report(*gpus, name="mixed"):
    numbered = [{"index": index, "memoryBytes": 100, **gpu} for index, gpu in enumerate(gpus)]
    row = ModelNodeRow.read({"metadata": {"name": name}, "status": {"gpus": numbered}})
    assert row is not None
    return row


def cut(profiles, *, fault=None, free=98):
    pieces = [{"profile": profile, "memoryBytes": 100, "freeBytes": free} for profile in profiles]
    told = {"healthy": False, "fault": fault} if fault else {"healthy": True}
    return {"migEnabled": True, "mig": pieces, **told}


def test_a_fault_takes_the_slices_of_its_gpu_out_and_says_so():
    seen = report(cut(["1g.10gb"] * 4, fault="XID 79 (GPU has fallen off the bus)"), cut(["1g.10gb"] * 3))
    found = choose(
        inventory([mixed(large=0)], [PodUse("mixed", {SMALL: 3})], [seen]),
        tiny(partition="1g.10gb"),
    )
    assert (
        "found 0 of 7 free (GPU 0: XID 79 (GPU has fallen off the bus)) on mixed"
        in found.to_status()["message"]
    )
    assert place(placed([mixed(large=0)], tiny(), model_nodes=[seen]))[1] == SMALL


def test_slices_that_the_device_plugin_took_out_itself_are_not_taken_out_twice():
    seen = report(cut(["1g.10gb"] * 4, fault="lost"), cut(["1g.10gb"] * 3))
    row = replace(mixed(large=0), allocatable={SMALL: 3})
    assert inventory([row], (), [seen]).nodes[0].free(SMALL) == 3


def test_a_slice_whose_memory_somebody_holds_is_not_free():
    seen = report(cut(["1g.10gb"] * 6), cut(["1g.10gb"], free=5))
    state = inventory([mixed(large=0)], (), [seen]).nodes[0]
    assert state.free(SMALL) == 6
    assert "memory of 1 is held by others" in state.free_of_total(SMALL)


def test_faults_are_of_whole_gpus_or_of_slices():
    seen = report({"healthy": False, "fault": "lost"}, {"healthy": True}, cut(["1g.10gb"] * 7))
    state = inventory([mixed(whole=2, large=0)], (), [seen]).nodes[0]
    assert state.free_of_total(GPU) == "1 of 2 free (GPU 0: lost)"
    assert state.free_of_total(SMALL) == "7 of 7 free"
    assert state.unusable is None


def test_a_node_all_of_whose_gpus_and_slices_are_broken_says_so():
    seen = report(
        {"healthy": False, "fault": "lost"}, cut(["1g.10gb"], fault="ECC: no spare memory row left")
    )
    found = inventory([mixed(whole=1)], (), [seen]).nodes[0].unusable
    assert found is not None
    assert "found 0 of 2 (GPU 0: lost; GPU 1: ECC: no spare memory row left)" in found.message


# --- shares ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "sharing", "where"),
    [
        pytest.param([shared(), node("l4")], None, "shared", id="any way: the least memory"),
        pytest.param([shared(), node("l4")], Sharing.EXCLUSIVE, "l4", id="exclusive: whole GPUs"),
        pytest.param([shared(), mixed()], Sharing.EXCLUSIVE, "mixed", id="exclusive: slices too"),
        pytest.param([shared(), shared("mps", "mps")], Sharing.MPS, "mps", id="MPS alone"),
        pytest.param([shared("a", "mps"), shared("b")], Sharing.TIME_SLICING, "b", id="time-slicing alone"),
    ],
)
def test_how_a_gpu_may_be_shared(nodes, sharing, where):
    assert placed(nodes, tiny(sharing=sharing)).node == where


def test_a_share_under_a_name_of_its_own_is_asked_for_by_it():
    found = placed([shared(resource="nvidia.com/gpu.shared")], tiny())
    assert (found.resource, found.shares, found.gpu_memory_bytes) == (
        "nvidia.com/gpu.shared",
        4,
        81559 * MIB // 4,
    )
    assert "NVIDIA-H100 with 19.7 GiB usable (of 4 shares by time-slicing)" in found.message


def test_shares_that_nobody_wants_are_refused_with_how_they_are_shared():
    found = refused([shared()], tiny(sharing=Sharing.MPS))
    assert found.rejected[0].reason.message == (
        "shared: needs accelerator.sharing MPS, found NVIDIA-H100-SHARED in 4 shares by TimeSlicing; "
        "leave sharing out to take any"
    )


@pytest.mark.parametrize("strategy", ["time-slicing", "mps"])
def test_what_does_not_fit_a_share_does_not_fit_its_gpu(strategy):
    assert placed([node("h", "NVIDIA-H100")], demand(QWEN)).verdict is Verdict.FITS
    found = refused([shared(strategy=strategy, replicas=8)], demand(QWEN))
    assert codes(found) == {"shared": "GpuTooSmall"}


@pytest.mark.parametrize(("strategy", "share"), [("time-slicing", "0.23"), ("mps", "0.92")])
def test_an_engine_leaves_the_other_shares_their_memory(strategy, share):
    found = placed([shared(strategy=strategy)], demand(QWEN))
    launch = VLLM().launch(QWEN, found.fill(demand().ask))
    assert f"--gpu-memory-utilization={share}" in launch.args


# --- NVLink ------------------------------------------------------------------------------------------


def joined(name, *islands):
    gpus = [{"healthy": True, "nvlinkIsland": i} for i, size in enumerate(islands) for _ in range(size)]
    return report(*gpus, *[{"healthy": True}] * (8 - len(gpus)), name=name)


NVLINK = [node("a", "NVIDIA-H100"), node("b", "NVIDIA-H100")]


@pytest.mark.parametrize(
    ("islands", "where"),
    [
        pytest.param({"a": (2, 2, 2, 2), "b": (8,)}, "b", id="the node that joins as many as are needed"),
        pytest.param({"a": (4, 4), "b": (8,)}, "a", id="an island that is large enough is as good"),
        pytest.param({"a": (), "b": (4,)}, "b", id="a node without NVLink comes last"),
        pytest.param({"a": ()}, "b", id="also after one that nobody looked at"),
        pytest.param({"a": (2,), "b": (2,)}, "a", id="without any island the GPUs are taken all the same"),
    ],
)
def test_gpus_that_work_together_are_joined_by_nvlink(islands, where):
    reports = [joined(name, *sizes) for name, sizes in islands.items()]
    assert placed(NVLINK, demand(LLAMA_70B), model_nodes=reports).node == where


def test_a_place_that_is_not_joined_says_so():
    reports = [joined("a", 2, 2), joined("b", 2)]
    found = placed(NVLINK, demand(LLAMA_70B), model_nodes=reports)
    assert "; NVLink joins 2 of its GPUs, so these work together over PCIe" in found.message
    better = placed(NVLINK, demand(LLAMA_70B), model_nodes=[joined("a", 2), joined("b", 8)])
    assert "over PCIe, found b with 4 x NVIDIA-H100" in better.rejected[0].reason.message


def test_one_gpu_needs_no_link():
    assert placed(NVLINK, demand(QWEN), model_nodes=[joined("a"), joined("b", 8)]).node == "a"
