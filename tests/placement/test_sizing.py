"""Verdicts on GPUs that are in no cluster, beside what engines reported and publishers say."""

import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.engines.base import Ask, Facts
from modelops.engines.geometry import read, refuse_split
from modelops.engines.llamacpp import LlamaCpp
from modelops.engines.parameters import tensor_bytes
from modelops.engines.vllm import VLLM
from modelops.placement.memory import Verdict
from modelops.placement.products import PRODUCTS, product
from modelops.placement.sizing import LLAMACPP, SGLANG, Answer, Question, answer
from modelops.plan import Reason

CONFIGS = Path(__file__).parent.parent / "data" / "hf-configs"
GIB = 2**30
MIB = 2**20
FILES = sorted(path.stem for path in CONFIGS.glob("*.json"))
ORDER = [Verdict.NO, Verdict.RISKY, Verdict.FITS]


def config(name, **changes):
    return {**json.loads((CONFIGS / f"{name}.json").read_text()), **changes}


def gpu(name):
    found = product(name)
    assert not isinstance(found, Reason)
    return found.memory_bytes


def ask(given, gpus=1, on="H100", **changes) -> Question:
    given = config(given) if isinstance(given, str) else given
    return Question(given, gpus, gpu(on), **changes)


def sized(*words, **changes) -> Answer:
    found = answer(ask(*words, **changes))
    assert isinstance(found, Answer), found
    return found


LLAMA_8B = config(
    "llama3_1", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32
)
TINY = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
}
QWEN3_6 = {
    "model_type": "qwen3_5_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 40,
    "full_attention_interval": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}
ON_CPU = {"block_tokens": 128, "in_flight": 1, "batched_tokens": 2048}


@pytest.mark.parametrize(
    ("given", "kv_gib", "context", "options", "wanted"),
    [
        pytest.param(LLAMA_8B, 4, 16384, ON_CPU, (16_777_216, 256, 128, 32_768), id="1: Llama-3.1-8B"),
        pytest.param("gpt_oss_120b", 4, 16384, ON_CPU, (4_718_592, 910, 146, 102_119), id="2: gpt-oss-120b"),
        pytest.param("mistral", 4, 16384, ON_CPU, (16_777_216, 256, 49, 85_598), id="3: Mistral-7B v0.1"),
        pytest.param(TINY, 1, 1024, ON_CPU, (131_072, 8192, 8, 1_048_576), id="4: tiny Llama"),
        pytest.param(
            QWEN3_6,
            6.01,
            131072,
            {"kv_type": "fp8", "prefix_caching": True},
            (21_463_040, 300, 69, 569_878),
            id="5: Qwen3.6-35B-A3B",
        ),
    ],
)
def test_the_cache_is_what_the_engine_reports(given, kv_gib, context, options, wanted):
    found = sized(given, kv_bytes=int(kv_gib * GIB), context_tokens=context, **options)
    assert found.verdict is Verdict.FITS
    assert (found.cache.block_bytes, found.blocks, found.cache.request_blocks, found.kv_tokens) == wanted


def test_a_context_that_the_engine_refused_is_a_no_with_the_longest():
    found = sized(LLAMA_8B, kv_bytes=GIB, context_tokens=131072, **ON_CPU)
    assert (found.verdict, found.max_context_tokens) == (Verdict.NO, 8064)
    assert "8064" in found.reason
    assert "16.0 GiB" in found.reason


@pytest.mark.parametrize(
    ("given", "on", "gpus"),
    [
        pytest.param(LLAMA_8B, "L4", 1, id="Llama-3.1-8B on L4"),
        pytest.param("llama3_1", "A100-80", 4, id="70B on A100"),
        pytest.param("llama3_1", "H100", 4, id="70B on H100"),
        pytest.param("llama3_1", "H200", 2, id="70B on H200"),
        pytest.param("llama3_1", "B200", 1, id="70B on B200"),
        pytest.param("qwen3_30b", "A100-80", 1, id="Qwen3-30B-A3B on A100"),
        pytest.param("qwen3_30b", "H100", 1, id="Qwen3-30B-A3B on H100"),
        pytest.param("qwen3_30b", "L40S", 2, id="Qwen3-30B-A3B on L40S"),
        pytest.param("mixtral", "A100-80", 2, id="Mixtral on A100"),
        pytest.param("mixtral", "H200", 1, id="Mixtral on H200"),
        pytest.param("gpt_oss_20b", "L4", 1, id="gpt-oss-20b on L4"),
        pytest.param("gpt_oss_120b", "H100", 2, id="gpt-oss-120b on H100"),
        pytest.param("gpt_oss_120b", "H200", 1, id="gpt-oss-120b on H200"),
    ],
)
def test_the_fewest_gpus_that_fit_are_those_of_the_note(given, on, gpus):
    found = sized(given, 8, on, context_tokens=8192)
    assert (found.verdict, found.load.gpus) == (Verdict.FITS, gpus)


@pytest.mark.parametrize(
    ("question", "verdict"),
    [
        # vLLM refused: nothing was left (vllm-project/vllm#23278).
        pytest.param(
            ask("gpt_oss_120b", utilization=Fraction(9, 10), batched_tokens=8192),
            Verdict.RISKY,
            id="120b on H100",
        ),
        pytest.param(
            ask("gpt_oss_120b", context_tokens=131072, on="A100-40"), Verdict.NO, id="120b on A100-40"
        ),
        pytest.param(ask("llama3_1", gpus=1), Verdict.NO, id="70B on one H100"),
        pytest.param(ask(LLAMA_8B, on="T4"), Verdict.NO, id="8B on T4"),
        pytest.param(
            replace(ask("gpt_oss_20b", on="L4"), capability=(7, 5)),
            Verdict.NO,
            id="MXFP4 on a GPU that is too old",
        ),
        pytest.param(
            ask("llama3_1", kv_bytes=4 * GIB, context_tokens=8192),
            Verdict.NO,
            id="a cache beside too large weights",
        ),
        pytest.param(
            ask(QWEN3_6, kv_bytes=4 * GIB, context_tokens=8192, engine=SGLANG),
            Verdict.RISKY,
            id="states that SGLang keeps in unknown number",
        ),
    ],
)
def test_what_does_not_fit_for_certain_is_never_said_to(question, verdict):
    found = answer(question)
    assert isinstance(found, Answer)
    assert found.verdict is verdict


def test_one_token_more_than_the_longest_context_does_not_fit():
    found = sized(LLAMA_8B, on="L4", context_tokens=8192)
    assert found.verdict is Verdict.FITS
    longest = found.max_context_tokens
    assert 8192 < longest < 131072
    assert sized(LLAMA_8B, on="L4", context_tokens=longest).verdict is Verdict.FITS
    assert sized(LLAMA_8B, on="L4", context_tokens=longest + 1).verdict is not Verdict.FITS


def test_a_context_that_nobody_names_is_the_longest_that_fits():
    assert sized("qwen2.5_7b", on="H200").context_tokens == 131072
    chosen = sized(LLAMA_8B, on="L4")
    assert (chosen.verdict, chosen.context_tokens) == (Verdict.FITS, chosen.max_context_tokens)


def test_a_vision_tower_turns_a_tight_fit_into_a_risk():
    text = config("gemma3_text")
    tower = {"hidden_size": 4096, "num_hidden_layers": 40, "intermediate_size": 16384}
    both = {"model_type": "gemma3", "text_config": text, "vision_config": tower}
    memory = 6 * GIB
    plain = answer(Question(text, 1, memory, context_tokens=8192))
    seeing = answer(Question(both, 1, memory, context_tokens=8192))
    counted = answer(Question(both, 1, memory, context_tokens=8192, tensor_bytes=tensor_bytes(text)))
    assert [found.verdict for found in (plain, seeing, counted)] == [
        Verdict.FITS,
        Verdict.RISKY,
        Verdict.FITS,
    ]
    assert "vision tower" in seeing.reason


def test_llama_cpp_has_no_blocks_and_rounds_cells_up():
    found = sized("gpt_oss_120b", on="H200", engine=LLAMACPP, context_tokens=131072, batched_tokens=1024)
    assert (found.cache.block_bytes, found.cache.request_blocks, found.blocks) == (None, None, None)
    # Half of the log's two sequences: 9,216 and 90 MiB.
    assert found.cache.request_bytes == (4608 + 45) * MIB


@pytest.mark.parametrize(
    ("kv_type", "token_bytes"), [("auto", 131_072), ("bf16", 131_072), ("q8_0", 69_632), ("q4_0", 36_864)]
)
def test_llama_cpp_counts_scales_of_quantised_caches(kv_type, token_bytes):
    assert sized(LLAMA_8B, engine=LLAMACPP, kv_type=kv_type).load.kv_token_bytes == token_bytes


def test_sglang_fills_what_it_is_given_by_the_token():
    found = sized(LLAMA_8B, engine=SGLANG, kv_bytes=4 * GIB, context_tokens=8192)
    assert found.kv_tokens == 4 * GIB // 131_072


def test_sglang_takes_its_own_share_where_nobody_says():
    own, more = (
        sized(LLAMA_8B, engine=SGLANG, context_tokens=8192, utilization=u) for u in (None, Fraction(92, 100))
    )
    assert own.load.kv_low_bytes < more.load.kv_low_bytes


@pytest.mark.parametrize(
    ("question", "code", "named"),
    [
        pytest.param(ask({}), "ConfigIncomplete", "num_hidden_layers", id="an empty configuration"),
        pytest.param(
            ask(LLAMA_8B, context_tokens=131073), "ContextTooLong", "131072", id="past the model's context"
        ),
        pytest.param(ask(LLAMA_8B, 2, tensor_parallel=4), "TooFewGpus", "4", id="more than there are"),
        pytest.param(
            ask(LLAMA_8B, 8, tensor_parallel=3), "HeadsNotDivisible", "1, 2, 4", id="what does not divide"
        ),
        pytest.param(
            ask(LLAMA_8B, 64, engine=LLAMACPP, tensor_parallel=33),
            "LayersNotEnough",
            "32",
            id="more than layers",
        ),
        pytest.param(
            ask({**LLAMA_8B, "model_type": "hyena"}), "ArchitectureUnknown", "hyena", id="unknown family"
        ),
        pytest.param(ask(QWEN3_6, context_tokens=8192), "WeightsUnknown", "qwen3_5_moe", id="linear layers"),
        pytest.param(
            ask({**LLAMA_8B, "quantization_config": {"quant_method": "exotic"}}),
            "WeightsUnknown",
            "--weights-bytes",
            id="an unknown scheme",
        ),
        pytest.param(ask(QWEN3_6, kv_bytes=GIB), "ContextNeeded", "--context", id="no context anywhere"),
    ],
)
def test_a_question_that_makes_no_sense_gets_one_sentence(question, code, named):
    found = answer(question)
    assert isinstance(found, Reason)
    assert found.code == code
    assert named in found.message
    assert "; " in found.message
    assert "accelerator" not in found.message, "there is no service to correct"


def test_an_unknown_family_is_reckoned_once_its_weights_are_told():
    found = sized({**LLAMA_8B, "model_type": "hyena"}, tensor_bytes=16 * GIB, context_tokens=8192)
    assert (found.verdict, found.parameters) == (Verdict.FITS, None)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("gpus", [1, 2])
def test_the_offline_sum_is_the_one_that_places_pods(name, gpus):
    given = config(name)
    method = (given.get("quantization_config") or {}).get("quant_method")
    facts = Facts(
        name,
        "safetensors",
        weights_bytes=tensor_bytes(given),
        quantization=method,
        geometry=read(given),
        main_file="f",
    )
    asked = Ask("m", context_tokens=8192, gpus=gpus)
    placed = VLLM().footprint(facts, asked)
    offline = sized(given, gpus, tensor_parallel=gpus, context_tokens=8192, prefix_caching=True)
    assert placed.weights_bytes_per_gpu == offline.load.weights_bytes
    assert (placed.overhead_low_bytes, placed.overhead_high_bytes) == (
        offline.load.overhead_low_bytes,
        offline.load.overhead_high_bytes,
    )
    assert placed.kv_bytes_required == offline.cache.required_bytes
    assert placed.kv_bytes_per_token == offline.load.kv_token_bytes
    placed = LlamaCpp().footprint(facts, replace(asked, max_concurrency=1))
    offline = sized(
        given,
        gpus,
        engine=LLAMACPP,
        tensor_parallel=gpus,
        context_tokens=8192,
        tensor_bytes=tensor_bytes(given),
    )
    assert placed.weights_bytes_per_gpu == offline.load.weights_bytes
    assert placed.kv_bytes_required == offline.cache.required_bytes


# --- products ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("h100", "H100"),
        ("NVIDIA-A100-SXM4-80GB", "A100-80"),
        ("NVIDIA-A100-PCIE-40GB", "A100-40"),
        ("Tesla-T4", "T4"),
        ("NVIDIA-GeForce-RTX-4090", "RTX-4090"),
        ("RTX 5090", "RTX-5090"),
        ("NVIDIA-L4", "L4"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_a_gpu_is_known_by_its_label_and_by_a_short_name(name, short):
    assert product(name).name == short


@pytest.mark.parametrize(
    "name", ["", "A100", "NVIDIA-L4-SHARED", "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "H100-NVL"]
)
def test_a_gpu_of_unknown_memory_is_refused(name):
    found = product(name)
    assert isinstance(found, Reason)
    assert "--gpu-memory-mib" in found.message


# --- laws --------------------------------------------------------------------------------------------

MODELS = st.sampled_from(FILES).map(config)
QUESTIONS = st.builds(
    Question,
    MODELS,
    gpus=st.sampled_from([1, 2, 4, 8]),
    memory_bytes=st.sampled_from([p.memory_bytes for p in PRODUCTS]),
    engine=st.sampled_from(["vLLM", "SGLang", "LlamaCpp"]),
    context_tokens=st.sampled_from([1, 100, 4096, 8192, 32768]),
    prefix_caching=st.booleans(),
    batched_tokens=st.sampled_from([None, 512, 8192]),
)


def verdict(question) -> Verdict:
    found = answer(question)
    assert isinstance(found, Answer), found
    return found.verdict


@settings(max_examples=60, deadline=None)
@given(QUESTIONS, st.integers(0, 200_000))
def test_more_memory_never_turns_a_fit_into_none(question, more_mib):
    # SGLang reserves more on larger GPUs, by a table of its own.
    question = replace(question, utilization=Fraction(9, 10))
    larger = replace(question, memory_bytes=question.memory_bytes + more_mib * MIB)
    assert ORDER.index(verdict(question)) <= ORDER.index(verdict(larger))


@settings(max_examples=60, deadline=None)
@given(QUESTIONS, st.integers(0, 24_000))
def test_more_context_never_lowers_the_need(question, more):
    short = answer(replace(question, tensor_parallel=1, context_tokens=min(question.context_tokens, 8192)))
    long = answer(
        replace(question, tensor_parallel=1, context_tokens=min(question.context_tokens, 8192) + more)
    )
    assert isinstance(short, Answer)
    assert isinstance(long, Answer)
    assert short.cache.required_bytes <= long.cache.required_bytes
    assert ORDER.index(long.verdict) <= ORDER.index(short.verdict)


@settings(max_examples=60, deadline=None)
@given(QUESTIONS)
def test_a_split_never_raises_the_need_of_each_gpu_but_for_what_every_gpu_keeps(question):
    loads = []
    for gpus in (1, 2, 4, 8):
        if question.engine != LLAMACPP and refuse_split("", read(question.config), gpus):
            continue
        found = answer(replace(question, gpus=gpus, tensor_parallel=gpus))
        assert isinstance(found, Answer)
        loads.append(found)
    for fewer, more in pairwise(loads):
        assert more.load.weights_bytes <= fewer.load.weights_bytes
        assert more.load.kv_token_bytes <= fewer.load.kv_token_bytes
        assert more.cache.required_bytes <= fewer.cache.required_bytes


@settings(max_examples=60, deadline=None)
@given(QUESTIONS)
def test_a_fit_holds_one_request_beside_the_most_overhead(question):
    found = answer(question)
    assert isinstance(found, Answer)
    load = found.load
    if found.verdict is not Verdict.FITS:
        return
    taken = load.weights_bytes + load.overhead_high_bytes + found.cache.required_bytes
    assert taken <= question.memory_bytes * 99 // 100
    assert found.concurrency >= 1
    assert found.max_context_tokens >= question.context_tokens
    if found.blocks is not None:
        assert found.blocks - 1 >= found.cache.request_blocks


KEYS = sorted({key for name in FILES for key in config(name)} | {*QWEN3_6, "text_config", "vision_config"})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**41) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner)
    ),
    max_leaves=4,
)


@settings(max_examples=50, deadline=None)
@given(
    MODELS,
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
    st.sampled_from(["vLLM", "SGLang", "LlamaCpp"]),
)
def test_no_configuration_however_odd_breaks_the_sum(model, changes, engine):
    for kv_bytes in (None, GIB):
        found = answer(Question({**model, **changes}, 8, gpu("H100"), engine=engine, kv_bytes=kv_bytes))
        if isinstance(found, Reason):
            assert found.message.count("\n") == 0
            assert "; " in found.message
        else:
            json.dumps(found.to_wire(), allow_nan=False)
