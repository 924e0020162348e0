"""What is read through the real bindings of a library that says what a file says."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from e2e.nvml import (
    DRIVER_NOT_LOADED,
    LOST,
    MIB,
    NO_PERMISSION,
    RESET_REQUIRED,
    Gpu,
    Machine,
    Slice,
    h100,
    l4,
)
from modelops.nodes.facts import GpuFacts, Lapse, NodeFacts, Rows, Xid
from modelops.nodes.nvml import Nvml, mig_profile
from modelops.plan import Reason

Say = Callable[[Machine], None]
GIB = 2**30


@pytest.fixture
def nvml() -> Iterator[Nvml]:
    opened = Nvml("n1")
    yield opened
    opened.close()


def read(nvml: Nvml) -> NodeFacts:
    seen = nvml.read()
    assert isinstance(seen, NodeFacts), seen
    return seen


def test_a_gpu_says_what_it_is(nvml: Nvml, say: Say) -> None:
    say(Machine((l4(0),)))
    assert read(nvml) == NodeFacts(
        (
            GpuFacts(
                index=0,
                bus_id="00000000:30:00.0",
                name="NVIDIA L4",
                memory_bytes=23034 * MIB,
                reserved_bytes=456 * MIB,
                free_bytes=22577 * MIB,
                ecc_uncorrected=0,
                rows=Rows(),
            ),
        ),
        driver="580.95.05",
        cuda="13.0",
    )


def test_a_gpu_that_tells_nothing_is_read_all_the_same(nvml: Nvml, say: Say) -> None:
    say(Machine((Gpu("GeForce", "00000000:01:00.0", total=8 * GIB, free=7 * GIB),), cuda=12040))
    seen = read(nvml)
    gpu = seen.gpus[0]
    assert seen.cuda == "12.4"
    assert (gpu.memory_bytes, gpu.reserved_bytes, gpu.free_bytes) == (8 * GIB, None, 7 * GIB)
    assert (gpu.has_mig, gpu.ecc_uncorrected, gpu.rows, gpu.peers) == (None, None, None, frozenset())


def test_links_are_read_with_their_other_ends_and_only_where_active(nvml: Nvml, say: Say) -> None:
    say(Machine((h100(0),)))
    assert read(nvml).gpus[0].peers == {f"00000000:{bus}:00.0" for bus in ("C0", "C1", "C2", "C3")}


@pytest.mark.parametrize(
    ("gpu", "rows"),
    [
        pytest.param(h100(0, remapped=(1, 2, 1, 0)), Rows(3, True, False), id="rows wait for a reset"),
        pytest.param(h100(0, remapped=(0, 8, 0, 1)), Rows(8, False, True), id="no spare row left"),
        pytest.param(l4(0, remapped=None, retired=(3, 1, 1)), Rows(4, True), id="pages, before Ampere"),
    ],
)
def test_bad_memory_is_read_from_rows_or_pages(nvml: Nvml, say: Say, gpu: Gpu, rows: Rows) -> None:
    say(Machine((gpu,)))
    assert read(nvml).gpus[0].rows == rows


def test_slices_are_read_with_the_name_of_the_driver_or_a_reckoned_one(nvml: Nvml, say: Say) -> None:
    small = Slice(9856 * MIB, 9800 * MIB, 1, 1, name="NVIDIA H100 80GB HBM3 MIG 1g.10gb+me")
    large = Slice(40448 * MIB, 40000 * MIB, 3, 3)
    say(Machine((h100(0, mig=True, slices=(small, large)),)))
    gpu = read(nvml).gpus[0]
    assert gpu.has_mig
    assert [(piece.profile, piece.free_bytes) for piece in gpu.slices] == [
        ("1g.10gb+me", 9800 * MIB),
        ("3g.40gb", 40000 * MIB),
    ]


@pytest.mark.parametrize(
    ("compute", "slices", "memory_mib", "gpu_mib", "profile"),
    [  # Source: NVIDIA's MIG user guide, the tables of supported profiles
        pytest.param(1, 1, 4864, 40960, "1g.5gb", id="A100 of 40 GB"),
        pytest.param(3, 3, 19968, 40960, "3g.20gb", id="half an A100 of 40 GB"),
        pytest.param(1, 1, 9856, 81559, "1g.10gb", id="H100"),
        pytest.param(7, 7, 80896, 81559, "7g.80gb", id="a whole H100"),
        pytest.param(1, 1, 16640, 143771, "1g.18gb", id="H200"),
        pytest.param(3, 3, 71552, 143771, "3g.71gb", id="half an H200"),
        pytest.param(1, 2, 20096, 81559, "1c.2g.20gb", id="a part of its compute"),
    ],
)
def test_a_profile_is_named_as_nvidia_names_it(
    compute: int, slices: int, memory_mib: int, gpu_mib: int, profile: str
) -> None:
    assert mig_profile(compute, slices, memory_mib, gpu_mib * MIB) == profile


def test_a_gpu_that_is_lost_keeps_what_it_said_and_the_others_answer(nvml: Nvml, say: Say) -> None:
    machine = Machine((h100(0), h100(1)))
    say(machine)
    before = read(nvml).gpus
    say(machine.with_gpu(1, result=LOST))
    assert read(nvml).gpus == (before[0], replace(before[1], lapse=Lapse.LOST))
    say(machine)
    assert read(nvml).gpus == before


@pytest.mark.parametrize(
    ("result", "lapse"), [(LOST, Lapse.LOST), (RESET_REQUIRED, Lapse.RESET_REQUIRED)], ids=["lost", "reset"]
)
def test_a_gpu_that_never_answered_is_still_counted(nvml: Nvml, say: Say, result: int, lapse: Lapse) -> None:
    say(Machine((l4(0), l4(1, result=result))))
    assert read(nvml).gpus[1] == GpuFacts(1, lapse=lapse)


@pytest.mark.parametrize(
    ("machine", "code", "words"),
    [
        pytest.param(
            Machine((), init=DRIVER_NOT_LOADED),
            "DriverNotLoaded",
            "n1: needs the NVIDIA driver, found it not loaded; look at",
            id="no driver",
        ),
        pytest.param(
            Machine((), init=NO_PERMISSION),
            "NoPermission",
            "n1: needs to read the node's GPUs, found no permission",
            id="no permission for NVML",
        ),
        pytest.param(
            Machine((l4(0, result=NO_PERMISSION),)),
            "NoPermission",
            "give the pod the NVIDIA runtime",
            id="no permission for a GPU",
        ),
        pytest.param(Machine((), init=18), "VersionMismatch", "delete the agent's pod", id="a newer driver"),
        pytest.param(
            Machine((), init=999), "NvmlFailed", "n1: needs an answer of NVML, found Unknown Error", id="?"
        ),
    ],
)
def test_why_nothing_can_be_read_is_a_sentence(
    nvml: Nvml, say: Say, machine: Machine, code: str, words: str
) -> None:
    say(machine)
    seen = nvml.read()
    assert isinstance(seen, Reason)
    assert seen.code == code
    assert words in seen.message
    say(Machine((l4(0),)))
    assert len(read(nvml).gpus) == 1, "it is looked again"


def test_a_connection_that_breaks_is_made_anew(nvml: Nvml, say: Say) -> None:
    say(Machine((l4(0),)))
    read(nvml)
    say(Machine((l4(0),), result=999))
    assert isinstance(nvml.read(), Reason)
    say(Machine((l4(0), l4(1))))
    assert len(read(nvml).gpus) == 2


def test_a_gpu_more_is_seen_and_heard(nvml: Nvml, say: Say) -> None:
    say(Machine((l4(0),)))
    read(nvml)
    more = Machine((l4(0), l4(1)))
    say(more)
    assert len(read(nvml).gpus) == 2
    say(more.with_xid(1, 79))
    assert nvml.wait(1) == (Xid(1, 79),)


def test_errors_are_heard_with_their_gpu_and_all_that_came_at_once(nvml: Nvml, say: Say) -> None:
    machine = Machine((h100(0), h100(1)), xids=((0, 48),))
    say(machine)
    read(nvml)
    say(machine.with_xid(1, 94).with_xid(1, 79))
    assert nvml.wait(1) == (Xid(1, 94), Xid(1, 79)), "and none from before it listened"


def test_the_error_of_a_gpu_that_is_lost_by_it_is_heard(nvml: Nvml, say: Say) -> None:
    machine = Machine((h100(0), h100(1)))
    say(machine)
    read(nvml)
    say(machine.with_gpu(1, result=LOST).with_xid(1, 79))
    assert nvml.wait(1) == (Xid(1, 79),)


def test_nobody_waits_for_errors_before_a_first_look(nvml: Nvml) -> None:
    assert nvml.wait(60) == ()
