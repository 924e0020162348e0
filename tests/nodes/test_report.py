"""What the report says of a node, and when it is made."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from modelops.api.node import ModelNode
from modelops.nodes.facts import GpuFacts, Lapse, NodeFacts, Rows, Slice
from modelops.nodes.report import fault_of, is_due, manifest, nvlink_islands, parting, profile_counts, status
from modelops.nodes.xids import CRITICAL, RECOVERY
from modelops.plan import Reason

GIB = 2**30
GPU = GpuFacts(
    0,
    bus_id="B0",
    name="NVIDIA H100 80GB HBM3",
    memory_bytes=80 * GIB,
    reserved_bytes=GIB,
    free_bytes=78 * GIB,
    has_mig=False,
    ecc_uncorrected=0,
    rows=Rows(),
)
NODE = NodeFacts((GPU, replace(GPU, index=1, bus_id="B1")), driver="580.95.05", cuda="13.0")
HANGS = Reason("NvmlHangs", "n1: needs an answer of NVML within 30 s, found none; restart the node")


@pytest.mark.parametrize(
    ("gpu", "xid", "words", "cure"),
    [
        pytest.param(GPU, 79, "XID 79 (GPU has fallen off the bus)", "and restart it", id="XID 79"),
        pytest.param(GPU, 48, "XID 48 (double-bit memory error)", "reset", id="XID 48"),
        pytest.param(replace(GPU, lapse=Lapse.LOST), None, "lost", "restart it", id="lost"),
        pytest.param(replace(GPU, lapse=Lapse.LOST), 79, "lost, XID 79", "restart it", id="lost by an XID"),
        pytest.param(replace(GPU, lapse=Lapse.RESET_REQUIRED), None, "reset required", "reset", id="reset"),
        pytest.param(
            replace(GPU, ecc_uncorrected=2),
            None,
            "ECC: 2 uncorrected memory errors",
            "reset the GPU",
            id="ECC",
        ),
        pytest.param(
            replace(GPU, rows=Rows(9, has_failed=True)),
            None,
            "no spare memory row left",
            "replace",
            id="rows",
        ),
        pytest.param(
            replace(GPU, rows=Rows(1, is_pending=True)),
            None,
            "rows wait to be remapped",
            "reset",
            id="pending",
        ),
        pytest.param(
            replace(GPU, recovery=2),
            None,
            "the driver asks for a restart of the node",
            "restart it",
            id="told by the driver",
        ),
        pytest.param(
            replace(GPU, recovery=99), None, "recovery action 99", "reset", id="told by a newer driver"
        ),
    ],
)
def test_what_takes_a_gpu_out_of_the_plan(gpu: GpuFacts, xid: int | None, words: str, cure: str) -> None:
    fault = fault_of(gpu, xid)
    assert fault is not None
    assert words in fault.words
    assert cure in fault.cure


@pytest.mark.parametrize(
    "gpu",
    [
        pytest.param(GPU, id="all well"),
        pytest.param(replace(GPU, rows=Rows(4)), id="rows that were remapped already"),
        pytest.param(replace(GPU, ecc_uncorrected=None, rows=None), id="memory without ECC"),
        pytest.param(replace(GPU, free_bytes=0), id="no free memory"),
    ],
)
def test_what_does_not(gpu: GpuFacts) -> None:
    assert fault_of(gpu, None) is None


def test_an_error_of_the_application_is_not_critical() -> None:
    assert not {13, 31, 43, 45, 68, 109} & set(CRITICAL), "the device plugin goes on offering the GPU"
    assert not {63, 92, 94} & set(CRITICAL), "told, contained, and cured without a reset"


def test_every_cure_says_what_to_do() -> None:
    for known in (*CRITICAL.values(), *RECOVERY.values()):
        assert known.cure.startswith("drain the node")


@pytest.mark.parametrize(
    ("peers", "islands"),
    [
        pytest.param([set(), set()], {}, id="no links"),
        pytest.param([{"B1"}, {"B0"}, {"B3"}, {"B2"}], {0: 0, 1: 0, 2: 1, 3: 1}, id="two bridged pairs"),
        pytest.param([{"S0", "S1"}, {"S0", "S1"}, {"S1"}], {0: 0, 1: 0, 2: 0}, id="joined by switches"),
        pytest.param([{"B1"}, {"B0", "B2"}, {"B1"}], {0: 0, 1: 0, 2: 0}, id="a chain"),
        pytest.param([{"S0"}, {"S1"}, {"S0", "S1"}], {0: 0, 1: 0, 2: 0}, id="joined by the last one"),
        pytest.param([{"B1"}, {"B0"}, set()], {0: 0, 1: 0}, id="one of three without"),
    ],
)
def test_gpus_that_a_path_of_links_joins_are_one_island(
    peers: list[set[str]], islands: dict[int, int]
) -> None:
    gpus = [replace(GPU, index=i, bus_id=f"B{i}", peers=frozenset(ends)) for i, ends in enumerate(peers)]
    assert nvlink_islands(gpus) == islands


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"has_mig": True}, id="MIG is on"),
        pytest.param({"lapse": Lapse.LOST}, id="lost"),
    ],
)
def test_a_gpu_that_cannot_use_its_links_is_on_no_island(broken: dict[str, Any]) -> None:
    pair = [replace(GPU, index=i, bus_id=f"B{i}", peers=frozenset({f"B{1 - i}"})) for i in range(2)]
    assert 0 not in nvlink_islands([replace(pair[0], **broken), pair[1]])


def test_slices_are_counted_by_profile() -> None:
    gpus = [replace(GPU, slices=(Slice("3g.40gb"), Slice("1g.10gb"), Slice("1g.10gb")))]
    assert profile_counts(gpus) == {"1g.10gb": 2, "3g.40gb": 1}


def test_the_report_is_what_the_schema_says() -> None:
    sliced = replace(GPU, index=2, bus_id="B2", has_mig=True, slices=(Slice("1g.10gb", 10 * GIB, 9 * GIB),))
    facts = replace(NODE, gpus=(*NODE.gpus, sliced, GpuFacts(3, lapse=Lapse.LOST)))
    whole = manifest("n1", status(facts, {0: 79}), "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z")
    parsed = ModelNode.parse(whole)
    assert parsed.status.to_wire() == whole["status"], "no field is unknown, none is lost"
    assert (parsed.status.gpu_count, parsed.status.healthy_count) == (4, 2)
    assert parsed.status.mig_slices == "1 x 1g.10gb"
    assert parsed.status.free_memory == "234.0 GiB"
    assert parsed.status.product == "NVIDIA-H100-80GB-HBM3"


def test_gpus_that_were_seen_stay_and_take_no_new_work_when_nvml_fails() -> None:
    told = status(HANGS, {1: 79}, NODE)
    assert told["conditions"][0] == {
        "type": "GPUsReadable", "status": "False", "reason": "NvmlHangs", "message": HANGS.message
    }  # fmt: skip
    assert [(gpu["healthy"], gpu["fault"]) for gpu in told["gpus"]] == [(False, "NvmlHangs")] * 2
    assert told["gpus"][1]["xid"] == 79
    assert told["healthyCount"] == 0


def test_a_node_whose_gpus_were_never_read_reports_none() -> None:
    assert set(status(HANGS, {})) == {"conditions"}


def test_the_last_report_keeps_faults_and_takes_back_what_grows_old() -> None:
    told = parting(status(NODE, {1: 79}))
    assert told["conditions"][0]["status"] == "Unknown"
    assert [gpu.get("fault") for gpu in told["gpus"]] == [None, "XID 79 (GPU has fallen off the bus)"]
    assert not [gpu for gpu in told["gpus"] if "freeBytes" in gpu]
    assert "freeMemory" not in told
    assert set(parting(status(HANGS, {}))) == {"conditions"}


def test_a_report_is_bounded() -> None:
    gpus = tuple(replace(GPU, index=i, slices=(Slice("1g.10gb"),) * 20) for i in range(80))
    told = status(NodeFacts(gpus), {})
    assert len(told["gpus"]) == 64
    assert len(told["gpus"][0]["mig"]) == 16


BEFORE = status(NODE, {})


def changed(**fields: Any) -> dict[str, Any]:
    told: dict[str, Any] = deepcopy(BEFORE)
    told["gpus"][0] |= fields
    return told


@pytest.mark.parametrize(
    ("before", "now", "seconds", "due"),
    [
        pytest.param(None, BEFORE, 0, True, id="the first report"),
        pytest.param(BEFORE, BEFORE, 299, False, id="nothing changed"),
        pytest.param(BEFORE, BEFORE, 300, True, id="five minutes later"),
        pytest.param(BEFORE, changed(healthy=False), 0, True, id="health"),
        pytest.param(BEFORE, status(HANGS, {}, NODE), 0, True, id="the condition"),
        pytest.param(BEFORE, status(replace(NODE, gpus=NODE.gpus[:1]), {}), 0, True, id="a GPU less"),
        pytest.param(BEFORE, changed(freeBytes=75 * GIB), 299, False, id="a little memory"),
        pytest.param(BEFORE, changed(freeBytes=74 * GIB), 9, False, id="much memory, too soon"),
        pytest.param(BEFORE, changed(freeBytes=74 * GIB), 10, True, id="5 % of the memory"),
    ],
)
def test_when_a_report_is_due(before: Any, now: Any, seconds: float, due: bool) -> None:
    assert is_due(before, now, seconds=seconds) is due
