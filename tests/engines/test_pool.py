"""Pools as vLLM and llama.cpp reported them themselves; research/engines.md 4.9."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.engines import pool
from modelops.engines.geometry import Geometry, Kind, Layer, State, read, uniform

CONFIGS = Path(__file__).parent.parent / "data" / "hf-configs"
GIB = 2**30
MIB = 2**20


def from_file(name) -> Geometry:
    found = read(json.loads((CONFIGS / f"{name}.json").read_text()))
    assert isinstance(found, Geometry)
    return found


def shaped(layers, **changes) -> Geometry:
    common = {"hidden_size": 64, "attention_heads": 32, "kv_heads": 8, "vocabulary": 512}
    return Geometry(layers=tuple(layers), context_tokens=131072, **{**common, **changes})


LLAMA_8B = shaped([Layer(Kind.FULL, 8, 128, 128)] * 32)
TINY = shaped([Layer(Kind.FULL, 2, 64, 64)] * 2)
LATENT = shaped([Layer(Kind.MLA, 1, 576)] * 27)
QWEN3_6 = shaped(
    [Layer(Kind.LINEAR, state=State(16, 32, 128, 128, 4))] * 30 + [Layer(Kind.FULL, 2, 256, 256)] * 10
)
CPU = {"block_tokens": 128, "in_flight": 1}


@pytest.mark.parametrize(
    ("geometry", "kv_gib", "context", "options", "wanted"),
    [
        pytest.param(
            LLAMA_8B, 4, 16384, CPU, (16_777_216, 256, 128, 32_768), id="1: Llama-3.1-8B, one full group"
        ),
        pytest.param(
            from_file("gpt_oss_120b"),
            4,
            16384,
            CPU,
            (4_718_592, 910, 146, 102_119),
            id="2: gpt-oss-120b, half of the layers slide",
        ),
        pytest.param(
            from_file("mistral"),
            4,
            16384,
            CPU,
            (16_777_216, 256, 49, 85_598),
            id="3: Mistral, every layer slides",
        ),
        pytest.param(TINY, 1, 1024, CPU, (131_072, 8192, 8, 1_048_576), id="4: tiny Llama"),
        pytest.param(
            QWEN3_6,
            6.01,
            131072,
            {"element_bytes": 1},
            (21_463_040, 300, 69, 569_878),
            id="5: Qwen3.6, the block grows until a page holds a state",
        ),
        pytest.param(
            from_file("gemma3_text"),
            1,
            32768,
            {"in_flight": 1},
            (65_536, 16384, 3014, 178_125),
            id="computed: Gemma-3-1B, uneven groups, one batch in flight",
        ),
        pytest.param(
            from_file("gemma3_text"),
            1,
            32768,
            {"in_flight": 2},
            (65_536, 16384, 3782, 141_954),
            id="computed: Gemma-3-1B, two batches in flight",
        ),
        pytest.param(
            LATENT, 1, 16384, {}, (497_664, 2157, 1024, 34_512), id="computed: DeepSeek-V2-Lite keeps latents"
        ),
    ],
)
def test_the_pool_is_the_one_that_the_engine_reports(geometry, kv_gib, context, options, wanted):
    paged = pool.paging(geometry, context_tokens=context, batched_tokens=2048, **options)
    filled = pool.fill(paged, kv_bytes=int(kv_gib * GIB), context_tokens=context)
    assert (paged.block_bytes, filled.blocks, paged.request_blocks, filled.tokens) == wanted


def test_a_context_that_does_not_fit_is_refused_with_the_largest_that_does():
    paged = pool.paging(LLAMA_8B, context_tokens=131072, batched_tokens=2048, **CPU)
    filled = pool.fill(paged, kv_bytes=GIB, context_tokens=131072)
    assert (filled.blocks, paged.request_blocks, filled.starts) == (64, 1024, False)
    assert paged.request_blocks * paged.block_bytes == 16 * GIB
    largest = pool.largest_context(
        LLAMA_8B, kv_bytes=GIB, limit_tokens=131072, batched_tokens=2048, block_tokens=128, in_flight=1
    )
    assert largest == 8064


def test_one_block_holds_nothing():
    paged = pool.paging(TINY, context_tokens=1024, batched_tokens=2048, **CPU)
    exact = paged.request_blocks * paged.block_bytes
    assert not pool.fill(paged, kv_bytes=exact, context_tokens=1024).starts
    assert pool.fill(paged, kv_bytes=exact + paged.block_bytes, context_tokens=1024).starts


def test_llama_cpp_takes_what_its_log_says():
    layers = from_file("gpt_oss_120b").layers
    both = {"context_tokens": 131072, "slots": 2, "batch_tokens": 1024}
    full = tuple(layer for layer in layers if layer.kind is Kind.FULL)
    sliding = tuple(layer for layer in layers if layer.kind is Kind.SLIDING)
    assert pool.cells_bytes(full, **both) == 9216 * MIB
    assert pool.cells_bytes(sliding, **both) == 90 * MIB


def test_llama_cpp_rounds_cells_up():
    layers = (Layer(Kind.FULL, 2, 64, 64),)
    assert pool.cells_bytes(layers, context_tokens=300, slots=1) == 512 * 512
    assert pool.cells_bytes(layers, context_tokens=300, slots=4) == 4 * 512 * 512


def test_llama_cpp_never_keeps_more_for_a_window_than_for_the_context():
    layers = (Layer(Kind.SLIDING, 2, 64, 64, window_tokens=4096),)
    assert pool.cells_bytes(layers, context_tokens=1024, slots=1) == 1024 * 512


LAYERS = st.sampled_from(
    [
        Layer(Kind.FULL, 8, 128, 128),
        Layer(Kind.SLIDING, 8, 128, 128, 4096),
        Layer(Kind.SLIDING, 8, 128, 128, 128),
        Layer(Kind.CHUNKED, 8, 128, 128, 8192),
        Layer(Kind.LINEAR, state=State(16, 32, 128, 128, 4)),
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    layers=st.lists(LAYERS, min_size=1, max_size=12),
    kv_bytes=st.integers(0, 8 * GIB),
    limit=st.integers(1, 65536),
)
def test_the_largest_context_starts_and_one_token_more_does_not(layers, kv_bytes, limit):
    geometry = shaped(layers)
    largest = pool.largest_context(geometry, kv_bytes=kv_bytes, limit_tokens=limit, batched_tokens=2048)

    def starts(context):
        paged = pool.paging(geometry, context_tokens=context, batched_tokens=2048)
        return pool.fill(paged, kv_bytes=kv_bytes, context_tokens=context).starts

    assert 0 <= largest <= limit
    assert largest == 0 or starts(largest)
    assert largest == limit or not starts(largest + 1)


@settings(max_examples=60, deadline=None)
@given(context=st.integers(1, 32768), heads=st.sampled_from([1, 2, 8]), slots=st.integers(1, 8))
def test_windows_never_take_more_than_full_layers(context, heads, slots):
    full = uniform(
        layers=4,
        hidden_size=64,
        attention_heads=heads,
        kv_heads=heads,
        head_dim=64,
        vocabulary=512,
        context_tokens=32768,
    )
    windowed = tuple(Layer(Kind.SLIDING, heads, 64, 64, 1024) for _ in full.layers)
    several = {"context_tokens": context, "slots": slots}
    assert pool.cells_bytes(windowed, **several) <= pool.cells_bytes(full.layers, **several)
