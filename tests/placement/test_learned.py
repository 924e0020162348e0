"""What an engine reports of its cache corrects the next plan of the same kind, and no other."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.engines.base import Ask
from modelops.engines.sglang import SGLang
from modelops.placement.fit import Placement, choose
from modelops.placement.inventory import inventory
from modelops.placement.learned import MOST, Learned, Report, kept, measure
from modelops.placement.memory import Verdict, judge
from tests.placement.test_fit import LLAMA_70B, QWEN, TINY, demand, node, placed, refused

GIB = 2**30
NODES = [node("n", "NVIDIA-H100")]


def learned(place: Placement, tokens=None, blocks=None, version="qwen-1") -> Learned:
    found = measure(place, "vLLM", version, Report("aa", tokens, blocks))
    assert found is not None
    return found


def pool(place: Placement) -> tuple[int, int]:
    """Return the tokens that the plan promises: with the most overhead, and with the least."""
    assert place.footprint is not None
    room = judge(place.footprint, place.gpu_memory_bytes)
    each = place.footprint.kv_bytes_one_request
    return tuple(
        room_bytes * place.footprint.context_tokens // each
        for room_bytes in (room.kv_low_bytes, room.kv_high_bytes)
    )  # type: ignore[return-value]


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0.5, 1.05))
def test_the_next_plan_is_within_5_percent_of_what_was_reported(share):
    first = placed(NODES, demand(QWEN))
    tokens = int(pool(first)[1] * share)
    again = placed(NODES, demand(QWEN, corrections=(learned(first, tokens),)))
    low, high = pool(again)
    wanted = min(tokens, high)  # never more than weights alone would leave
    assert low <= wanted <= high
    assert low >= 0.95 * wanted
    assert pool(again)[1] <= max(tokens, pool(first)[1])


def test_a_correction_is_told_with_its_source():
    first = placed(NODES, demand(QWEN))
    again = placed(NODES, demand(QWEN, corrections=(learned(first, 900_000),)))
    assert "overhead corrected from 1.2 GiB to 2.2 GiB by what qwen-1 measured on 1 x NVIDIA-H100: " in (
        again.message
    )
    assert "900000 tokens of cache" in again.message


def test_a_correction_that_leaves_no_room_refuses_with_it():
    nodes = [node("n", "NVIDIA-H100", 1)]
    heavy = replace(LLAMA_70B, weights_bytes=62 * GIB)
    first = placed(nodes, demand(heavy, count=1))
    assert first.verdict is Verdict.FITS
    found = refused(nodes, demand(heavy, count=1, corrections=(learned(first, 4000),)))
    assert found.reason.code == "NeverFits"
    assert "as measured" in found.reason.message


def test_a_risk_that_was_measured_is_none_any_more():
    nodes = [node("n", "NVIDIA-H100", 1)]
    heavy = replace(LLAMA_70B, weights_bytes=68 * GIB)
    first = placed(nodes, demand(heavy, count=1))
    assert first.verdict is Verdict.RISKY
    again = placed(nodes, demand(heavy, count=1, corrections=(learned(first, pool(first)[1]),)))
    assert again.verdict is Verdict.FITS


@pytest.mark.parametrize(
    ("changed", "is_used"),
    [
        pytest.param({}, True, id="all the same"),
        pytest.param({"facts": replace(QWEN, name="qwen-2")}, True, id="another version of the same shape"),
        pytest.param({"context": 4096}, True, id="another context"),
        pytest.param({"facts": replace(QWEN, layers=29)}, False, id="another shape"),
        pytest.param({"facts": replace(QWEN, quantization="fp8")}, False, id="another quantization"),
        pytest.param({"engine": SGLang()}, False, id="another engine"),
        pytest.param({"ask": Ask("chat", 8192, image="x/vllm:2")}, False, id="another image"),
        pytest.param({"ask": Ask("chat", 8192, max_concurrency=32)}, False, id="another concurrency"),
        pytest.param(
            {"ask": Ask("chat", 8192, extra_args=("--enforce-eager",))}, False, id="other arguments"
        ),
        pytest.param({"count": 2}, False, id="another number of GPUs"),
        pytest.param({"nodes": [node("n", "NVIDIA-H200")]}, False, id="another product"),
        pytest.param(
            {
                "nodes": [
                    node(
                        "n",
                        "NVIDIA-H100",
                        labels={
                            "nvidia.com/gpu.replicas": "2",
                            "nvidia.com/gpu.sharing-strategy": "time-slicing",
                        },
                    )
                ]
            },
            False,
            id="a share of the same product",
        ),
    ],
)
def test_what_a_correction_holds_for(changed, is_used):
    known = learned(placed(NODES, demand(QWEN)), 900_000)
    changed = dict(changed)
    nodes = changed.pop("nodes", NODES)
    facts = changed.pop("facts", QWEN)
    found = placed(nodes, demand(facts, corrections=(known,), **changed))
    assert ("corrected" in found.message) is is_used


def test_of_several_measurements_the_largest_overhead_counts():
    first = placed(NODES, demand(QWEN))
    high, low = learned(first, 950_000), learned(first, 700_000, version="qwen-2")
    both = placed(NODES, demand(QWEN, corrections=(high, low)))
    assert both.footprint == placed(NODES, demand(QWEN, corrections=(low,))).footprint


def test_blocks_are_read_where_no_tokens_are_told():
    first = placed(NODES, demand(QWEN))
    assert first.footprint is not None
    block = first.footprint.kv_bytes_required - first.footprint.kv_bytes_one_request
    assert block == 16 * first.footprint.kv_bytes_per_token, "one full group: 16 tokens of every layer"
    assert learned(first, blocks=50_000).kv_tokens == 800_000
    assert learned(first, tokens=700_000, blocks=50_000).kv_tokens == 700_000, "tokens come first"


def test_more_cache_than_the_plan_can_explain_never_makes_an_overhead_negative():
    first = placed(NODES, demand(QWEN))
    assert learned(first, 10**9).overhead_bytes == 0


@pytest.mark.parametrize(
    ("tokens", "error"),
    [(900_000, None), (1_200_000, 9), (600_000, 72)],
    ids=["inside the band", "above it", "below it"],
)
def test_the_error_of_a_plan_is_how_far_its_band_is_from_the_report(tokens, error):
    first = placed(NODES, demand(QWEN))
    low, high = pool(first)
    found = learned(first, tokens if error else (low + high) // 2)
    assert (found.planned_low_tokens, found.planned_high_tokens) == (low, high)
    nearest = min(max(found.kv_tokens, low), high)
    assert found.error_percent == round(100 * abs(nearest - found.kv_tokens) / found.kv_tokens)
    assert (found.error_percent == 0) is (error is None)


def test_an_engine_that_tells_nothing_is_not_asked_to():
    tiny = placed([node("n")], demand(TINY, context=2048))
    assert tiny.basis == "", "llama.cpp takes the cache that it is told to take"
    assert measure(tiny, "LlamaCpp", "tiny-1", Report("aa", 2048)) is None
    assert measure(placed(NODES), "vLLM", "qwen-1", Report("aa")) is None


def test_sglang_reports_the_tokens_themselves():
    first = placed(NODES, demand(QWEN, SGLang()))
    assert first.footprint is not None
    again = placed(NODES, demand(QWEN, SGLang(), corrections=(learned(first, 800_000),)))
    assert pool(again)[0] <= 800_000 <= pool(again)[1] + 1


def test_the_last_measurements_are_kept_one_for_each_basis():
    base = learned(placed(NODES), 900_000)
    many = [replace(base, basis=f"{number:016x}") for number in range(MOST + 3)]
    found = kept(many[:MOST], many[MOST:])
    assert found == tuple(many[3:])
    newer = replace(many[4], kv_tokens=1)
    assert [one.kv_tokens for one in kept(found, [newer])].count(1) == 1
    assert kept(kept(found, [newer]), [newer]) == kept(found, [newer])


@given(st.builds(Learned, *[st.text(min_size=1, max_size=9)] * 4, *[st.integers(0, 2**40)] * 5))
def test_a_measurement_read_back_from_status_is_the_same(found):
    assert Learned.from_status(json.loads(json.dumps(found.to_status()))) == found


def test_a_plan_without_corrections_is_as_before():
    assert choose(inventory(NODES, ()), demand()) == choose(inventory(NODES, ()), demand(corrections=()))
