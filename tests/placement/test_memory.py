"""Verdicts against published starts and refusals; research/engines.md 4.6 and 4.9."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.engines.base import Ask, Facts, Footprint, Gpu
from modelops.engines.geometry import Geometry, read
from modelops.engines.vllm import VLLM
from modelops.placement.memory import Verdict, judge, needed_bytes, usable_bytes

CONFIGS = Path(__file__).parent.parent / "data" / "hf-configs"
GIB = 2**30
MIB = 2**20
LABELS_MIB = {"L4": 23034, "L40S": 46068, "H100": 81559, "A100": 81920, "H200": 143771, "B200": 183359}


def facts(file, weights_gib, **changes) -> Facts:
    geometry = read({**json.loads((CONFIGS / f"{file}.json").read_text()), **changes})
    assert isinstance(geometry, Geometry)
    return Facts(name=file, format="safetensors", weights_bytes=int(weights_gib * GIB), geometry=geometry)


LLAMA_8B = facts("llama3_1", 14.96, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32)
LLAMA_70B = facts("llama3_1", 131.42)
QWEN3 = facts("qwen3_30b", 56.87)
MIXTRAL = facts("mixtral", 86.99)
# Tensors of the files; 1.085 of them are loaded.
GPT_OSS_20B = replace(facts("gpt_oss_20b", 13.72 / 1.085), quantization="mxfp4")
GPT_OSS_120B = replace(facts("gpt_oss_120b", 65.97 / 1.085), quantization="mxfp4")


def verdict(model, product, gpus) -> Verdict:
    gpu = Gpu(product, LABELS_MIB[product] * MIB)
    ask = Ask("chat", context_tokens=8192, gpus=gpus, gpu=gpu)
    if VLLM().refuses(model, ask):
        return Verdict.NO
    footprint = VLLM().footprint(model, ask)
    assert footprint is not None
    return judge(footprint, gpu.memory_bytes).verdict


@pytest.mark.parametrize(
    ("model", "product", "gpus"),
    [
        pytest.param(LLAMA_8B, "L4", 1, id="Llama 8B: one L4"),
        pytest.param(LLAMA_70B, "A100", 4, id="Llama 70B: four A100"),
        pytest.param(LLAMA_70B, "H100", 4, id="Llama 70B: four H100"),
        pytest.param(LLAMA_70B, "H200", 2, id="Llama 70B: two H200"),
        pytest.param(LLAMA_70B, "B200", 1, id="Llama 70B: one B200"),
        pytest.param(QWEN3, "A100", 1, id="Qwen3-30B-A3B: one A100"),
        pytest.param(QWEN3, "H100", 1, id="Qwen3-30B-A3B: one H100"),
        pytest.param(QWEN3, "L40S", 2, id="Qwen3-30B-A3B: two L40S"),
        pytest.param(MIXTRAL, "A100", 2, id="Mixtral: two A100"),
        pytest.param(MIXTRAL, "H200", 1, id="Mixtral: one H200"),
        pytest.param(GPT_OSS_20B, "L4", 1, id="gpt-oss-20b: one L4"),
        pytest.param(GPT_OSS_120B, "H100", 2, id="gpt-oss-120b: two H100"),
        pytest.param(GPT_OSS_120B, "H200", 1, id="gpt-oss-120b: one H200"),
    ],
)
def test_the_smallest_number_of_gpus_is_the_known_one(model, product, gpus):
    fitting = [count for count in range(1, 9) if verdict(model, product, count) is Verdict.FITS]
    assert fitting[0] == gpus


def test_gpt_oss_120b_on_one_h100_is_risky():
    assert verdict(GPT_OSS_120B, "H100", 1) is Verdict.RISKY


def test_the_driver_keeps_a_part_of_the_memory():
    assert usable_bytes(81559 * MIB) / GIB == pytest.approx(78.9, abs=0.05)


SIZES = st.integers(0, 200 * GIB)
FOOTPRINTS = st.builds(
    lambda weights, token, request, more, low, band, percent: Footprint(
        weights, token, request, request + more, low, low + band, 8192, 256, percent
    ),
    SIZES,
    st.integers(0, MIB),
    SIZES,
    st.integers(0, GIB),
    st.integers(0, 8 * GIB),
    st.integers(0, 8 * GIB),
    st.integers(1, 100),
)
ORDER = [Verdict.NO, Verdict.RISKY, Verdict.FITS]


@given(FOOTPRINTS, SIZES, SIZES)
def test_more_memory_never_makes_a_verdict_worse(footprint, memory, more):
    worse, better = judge(footprint, memory).verdict, judge(footprint, memory + more).verdict
    assert ORDER.index(worse) <= ORDER.index(better)


@given(FOOTPRINTS, SIZES)
def test_what_fits_has_room_for_everything_and_what_does_not_lacks_some(footprint, memory):
    room = judge(footprint, memory)
    taken = footprint.weights_bytes_per_gpu + footprint.overhead_high_bytes + footprint.kv_bytes_required
    budget = memory * 99 // 100 * footprint.memory_percent // 100
    assert (room.verdict is Verdict.FITS) == (taken <= budget)


@given(FOOTPRINTS)
def test_the_needed_memory_is_where_it_starts_to_fit(footprint):
    needed = needed_bytes(footprint)
    assert judge(footprint, -(-needed * 100 // 99)).verdict is Verdict.FITS
    assert judge(footprint, (needed - 1) * 100 // 99).verdict is not Verdict.FITS
