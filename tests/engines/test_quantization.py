"""Bytes of weights by what config.json says of them, beside what publishers and engines say."""

import json
from pathlib import Path

import pytest

from modelops.engines.geometry import Geometry, read
from modelops.engines.parameters import knows, parameters, tensor_bytes, vision_bytes
from modelops.engines.quantization import Scheme, bytes_per_parameter
from modelops.engines.weights import loaded_bytes, overhead_bytes

CONFIGS = Path(__file__).parent.parent / "data" / "hf-configs"
GIB = 2**30


def config(name, **changes):
    return {**json.loads((CONFIGS / f"{name}.json").read_text()), **changes}


def loaded_gib(given, gpus=1):
    geometry, tensors = read(given), tensor_bytes(given)
    assert isinstance(geometry, Geometry)
    assert tensors is not None
    method = (given.get("quantization_config") or {}).get("quant_method")
    return loaded_bytes(tensors, geometry=geometry, quantization=method, gpus=gpus) / GIB


LLAMA_8B = config(
    "llama3_1", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32
)


@pytest.mark.parametrize(
    ("given", "gib"),
    [
        pytest.param(config("llama3_1"), 131.42, id="Llama-3.1-70B: KAITO's catalogue"),
        pytest.param(LLAMA_8B, 14.96, id="Llama-3.1-8B: KAITO's catalogue"),
        pytest.param(config("qwen2.5_7b"), 14.19, id="Qwen2.5-7B: KAITO's catalogue"),
        pytest.param(config("mistral", vocab_size=32768), 13.50, id="Mistral-7B v0.3: KAITO's catalogue"),
        pytest.param(config("llama3_1_405b", quantization_config=None), 755.96, id="Llama-3.1-405B in bf16"),
        pytest.param(config("llama3_2_1b"), 2.30, id="Llama-3.2-1B"),
        pytest.param(config("qwen2.5_0.5b"), 0.92, id="Qwen2.5-0.5B"),
        pytest.param(config("qwen2.5_72b"), 135.43, id="Qwen2.5-72B"),
        pytest.param(config("qwen3_30b"), 56.87, id="Qwen3-30B-A3B"),
        pytest.param(config("mistral"), 13.49, id="Mistral-7B v0.1"),
        pytest.param(config("mistral_7b_instruct"), 13.49, id="Mistral-7B v0.2"),
        pytest.param(config("mixtral"), 86.99, id="Mixtral-8x7B"),
        pytest.param(config("gemma3_text"), 1.86, id="Gemma-3-1B"),
        pytest.param(config("gpt_oss_120b"), 60.8, id="gpt-oss-120b in MXFP4: sum of its tensors"),
    ],
)
def test_tensors_take_what_is_published(given, gib):
    assert tensor_bytes(given) / GIB == pytest.approx(gib, abs=0.05)


@pytest.mark.parametrize(
    ("given", "gpus", "logged_gib"),
    [
        pytest.param(config("gpt_oss_120b"), 1, 65.97, id="gpt-oss-120b"),
        pytest.param(config("gpt_oss_20b"), 1, 13.72, id="gpt-oss-20b"),
        pytest.param(config("qwen3_30b"), 4, 14.2474, id="Qwen3-30B-A3B over 4"),
        pytest.param(config("llama3_1_405b"), 8, 57.75, id="Llama-3.1-405B in FP8 over 8"),
    ],
)
def test_loaded_weights_are_what_logs_say_within_two_percent(given, gpus, logged_gib):
    assert loaded_gib(given, gpus) == pytest.approx(logged_gib, rel=0.02)


# Published parameter counts of families that have no file here.
PHI3_MINI = {
    "model_type": "phi3",
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
GEMMA2_9B = {
    "model_type": "gemma2",
    "vocab_size": 256000,
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "num_hidden_layers": 42,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_nextn_predict_layers": 1,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
    "topk_method": "noaux_tc",
}


@pytest.mark.parametrize(
    ("given", "count"),
    [
        pytest.param(PHI3_MINI, 3_821_079_552, id="Phi-3-mini"),
        pytest.param(GEMMA2_9B, 9_241_705_984, id="Gemma-2-9B"),
        pytest.param(DEEPSEEK_V3, 671_026_419_200, id="DeepSeek-V3 without its extra layer for prediction"),
    ],
)
def test_parameters_of_further_families_are_the_published_ones(given, count):
    assert parameters(given) == count


def quantised(**scheme):
    return {**LLAMA_8B, "quantization_config": scheme}


INT4 = {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}
FP8 = {"weights": {"num_bits": 8, "type": "float"}}
NVFP4 = {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}


@pytest.mark.parametrize(
    ("scheme", "weight_bytes"),
    [
        pytest.param({"quant_method": "awq", "bits": 4, "group_size": 128}, 0.5 + 2.5 / 128, id="AWQ"),
        pytest.param(
            {"quant_method": "gptq", "bits": 4, "group_size": 32}, 0.5 + 2.5 / 32, id="GPTQ, small groups"
        ),
        pytest.param(
            {"quant_method": "gptq", "bits": 8, "group_size": -1}, 1.01, id="GPTQ, one group per column"
        ),
        pytest.param({"quant_method": "fp8", "weight_block_size": [128, 128]}, 1.01, id="FP8 in blocks"),
        pytest.param({"quant_method": "mxfp4"}, 17 / 32, id="MXFP4"),
        pytest.param({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 9 / 16, id="ModelOpt's NVFP4"),
        pytest.param({"quant_method": "modelopt", "quant_algo": "FP8"}, 1.01, id="ModelOpt's FP8"),
        pytest.param(
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": INT4}},
            0.5 + 2.5 / 128,
            id="W4A16",
        ),
        pytest.param(
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": FP8}},
            1.01,
            id="compressed FP8",
        ),
        pytest.param(
            {"quant_method": "compressed-tensors", "config_groups": {"a": NVFP4, "b": FP8}},
            1.01,
            id="several groups count like the widest",
        ),
        pytest.param({"quant_method": "compressed-tensors"}, None, id="compressed, nobody knows how"),
        pytest.param({"quant_method": "awq", "bits": 5}, None, id="bits that no kernel knows"),
        pytest.param({"quant_method": "exotic"}, None, id="a method never heard of"),
        pytest.param({}, None, id="a method that is not named"),
    ],
)
def test_bytes_per_weight_of_each_scheme(scheme, weight_bytes):
    found = Scheme.read({"quantization_config": scheme})
    assert (found and found.weight_bytes) == (weight_bytes and pytest.approx(weight_bytes))
    if weight_bytes is None:
        assert tensor_bytes(quantised(**scheme)) is None, "what is not known is not guessed"


def test_embeddings_norms_and_output_stay_whole():
    awq = quantised(quant_method="awq", bits=4, group_size=128)
    whole = 2 * 128256 * 4096 * 2 + (32 * 2 + 1) * 4096 * 2
    linear = parameters(LLAMA_8B) - 2 * 128256 * 4096 - (32 * 2 + 1) * 4096
    assert tensor_bytes(awq) == pytest.approx(whole + linear * (0.5 + 2.5 / 128), abs=1)


@pytest.mark.parametrize(
    ("entry", "layers"),
    [
        pytest.param("model.layers.3.mlp.down_proj", 1, id="one module by its name"),
        pytest.param("down_proj", 32, id="a part of the name"),
        pytest.param("model.layers.*.mlp.down_proj", 32, id="a pattern"),
        pytest.param("re:.*layers\\.(1|2)\\..*down_proj$", 2, id="a regular expression"),
    ],
)
def test_modules_that_are_left_out_stay_whole(entry, layers):
    scheme = {"quant_method": "fp8", "modules_to_not_convert": [entry]}
    more = tensor_bytes(quantised(**scheme)) - tensor_bytes(quantised(quant_method="fp8"))
    assert more == pytest.approx(layers * 4096 * 14336 * (2 - 1.01), abs=2)


def test_a_rule_that_cannot_be_read_leaves_modules_whole():
    broken = quantised(quant_method="fp8", ignore=["re:("])
    assert tensor_bytes(broken) == tensor_bytes(LLAMA_8B)


@pytest.mark.parametrize(
    ("word", "each"),
    [
        (None, 2.0),
        ("float32", 4.0),
        ("Q4_K_M", 5.0 / 8),
        ("q8_0", 8.5 / 8),
        ("F16", 2.0),
        ("awq", None),
        ("Q9_Z", None),
    ],
)
def test_bytes_per_parameter_by_one_word(word, each):
    assert bytes_per_parameter(word) == each


@pytest.mark.parametrize(
    ("given", "is_known"),
    [
        pytest.param(LLAMA_8B, True, id="a Llama"),
        pytest.param({**LLAMA_8B, "model_type": None}, True, id="no type: a plain decoder"),
        pytest.param({**LLAMA_8B, "model_type": "hyena"}, False, id="a family never heard of"),
        pytest.param({**LLAMA_8B, "model_type": "llama4_text"}, False, id="a family that counts differently"),
    ],
)
def test_parameters_are_counted_for_families_that_are_known(given, is_known):
    assert knows(given) is is_known
    assert (parameters(given) is not None) is is_known


@pytest.mark.parametrize("key", ["vocab_size", "intermediate_size"])
def test_parameters_without_a_size_are_not_counted(key):
    assert parameters({**LLAMA_8B, key: None}) is None


def test_a_vision_tower_takes_room_beside_the_parameters():
    tower = {"hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304}
    both = {"model_type": "gemma3", "text_config": config("gemma3_text"), "vision_config": tower}
    assert parameters(both) == parameters(config("gemma3_text"))
    # SigLIP of Gemma 3 has 417 million parameters, in two bytes each.
    assert vision_bytes(both) == pytest.approx(2 * 417e6, rel=0.5)
    assert vision_bytes(both) >= 2 * 417e6
    assert vision_bytes({"vision_config": {"size": "large"}}) > GIB
    assert vision_bytes(LLAMA_8B) == 0


def test_the_overhead_is_the_published_band():
    dense, experts = read(LLAMA_8B), read(config("qwen3_30b"))
    assert overhead_bytes(10 * GIB, geometry=dense) == (12 * GIB // 10, 2 * GIB)
    assert overhead_bytes(10 * GIB, geometry=experts) == (12 * GIB // 10, 27 * GIB // 10)
    assert overhead_bytes(10 * GIB, geometry=dense, gpus=2) == (15 * GIB // 10, 25 * GIB // 10)
    more = overhead_bytes(10 * GIB, geometry=dense, sequences=356)[1]
    assert more == 2 * GIB + 100 * 128256 * 8
