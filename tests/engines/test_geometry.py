"""Layer kinds, bytes per token and parameters against published and measured numbers."""

import json
from pathlib import Path

import pytest

from modelops.artifacts.huggingface_config import facts
from modelops.engines.base import Facts
from modelops.engines.geometry import Geometry, Kind, Layer, State, read, recall, refuse_split, stages
from modelops.engines.parameters import parameters
from modelops.plan import Reason

CONFIGS = Path(__file__).parent.parent / "data" / "hf-configs"

DEEPSEEK_V2_LITE = {
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "moe_intermediate_size": 1408,
    "first_k_dense_replace": 1,
    "intermediate_size": 10944,
    "vocab_size": 102400,
    "tie_word_embeddings": False,
    "topk_method": "greedy",
    "max_position_embeddings": 163840,
    "torch_dtype": "bfloat16",
}
QWEN3_6_35B = {
    "model_type": "qwen3_5_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 40,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "full_attention_interval": 4,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "num_experts": 256,
    "vocab_size": 248320,
    "max_position_embeddings": 262144,
}


def config(file, **changes):
    return {**json.loads((CONFIGS / f"{file}.json").read_text()), **changes}


LLAMA_8B = config(
    "llama3_1", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32
)


def geometry(given) -> Geometry:
    found = read(given)
    assert isinstance(found, Geometry), found
    return found


@pytest.mark.parametrize(
    ("given", "count", "token_bytes"),
    [
        pytest.param(config("llama3_1"), 70_553_706_496, 327_680, id="Llama-3.1-70B"),
        pytest.param(LLAMA_8B, 8_030_261_248, 131_072, id="Llama-3.1-8B"),
        pytest.param(config("llama3_1_405b"), 405_853_388_800, 516_096, id="Llama-3.1-405B"),
        pytest.param(config("llama3_2_1b"), 1_235_814_400, 32_768, id="Llama-3.2-1B has tied embeddings"),
        pytest.param(config("qwen2.5_0.5b"), 494_032_768, 12_288, id="Qwen2.5-0.5B switches its window off"),
        pytest.param(config("qwen2.5_7b"), 7_615_616_512, 57_344, id="Qwen2.5-7B has biases"),
        pytest.param(config("qwen2.5_72b"), 72_706_203_648, 327_680, id="Qwen2.5-72B"),
        pytest.param(config("qwen3_30b"), 30_532_122_624, 98_304, id="Qwen3-30B-A3B has 128 experts"),
        pytest.param(config("mistral"), 7_241_732_096, 131_072, id="Mistral-7B v0.1 slides"),
        pytest.param(config("mistral_7b_instruct"), 7_241_732_096, 131_072, id="Mistral-7B v0.2"),
        pytest.param(config("mistral", vocab_size=32768), 7_248_023_552, 131_072, id="Mistral-7B v0.3"),
        pytest.param(config("mixtral"), 46_702_792_704, 131_072, id="Mixtral has 8 experts"),
        pytest.param(config("gpt_oss_20b"), 20_914_757_184, 49_152, id="gpt-oss-20b has biases and sinks"),
        pytest.param(config("gpt_oss_120b"), 116_829_156_672, 73_728, id="gpt-oss-120b"),
        pytest.param(config("gemma3_text"), 999_885_952, 26_624, id="Gemma-3-1B has four norms a layer"),
        pytest.param(DEEPSEEK_V2_LITE, 15_706_484_224, 31_104, id="DeepSeek-V2-Lite keeps a latent"),
    ],
)
def test_parameters_and_bytes_per_token_are_the_published_ones(given, count, token_bytes):
    assert parameters(given) == count
    assert geometry(given).token_bytes() == token_bytes


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        pytest.param(config("llama3_1"), {Kind.FULL: 80}, id="no window: every layer is full"),
        pytest.param(config("qwen2.5_7b"), {Kind.FULL: 28}, id="a window switched off: every layer is full"),
        pytest.param(
            config("mistral"), {Kind.SLIDING: 32}, id="a window without a pattern: every layer slides"
        ),
        pytest.param(config("gpt_oss_20b"), {Kind.SLIDING: 12, Kind.FULL: 12}, id="layer_types wins"),
        pytest.param(config("gemma3_text"), {Kind.SLIDING: 22, Kind.FULL: 4}, id="every sixth is full"),
        pytest.param(DEEPSEEK_V2_LITE, {Kind.MLA: 27}, id="a latent rank: full means latent"),
        pytest.param(QWEN3_6_35B, {Kind.LINEAR: 30, Kind.FULL: 10}, id="every fourth is full, else linear"),
    ],
)
def test_the_kind_of_each_layer(given, kinds):
    layers = geometry(given).layers
    assert {kind: sum(layer.kind is kind for layer in layers) for kind in kinds} == kinds
    assert sum(kinds.values()) == len(layers)


@pytest.mark.parametrize(
    ("given", "tp", "token_bytes"),
    [
        pytest.param(config("llama3_1"), 8, 40_960, id="70B over 8 GPUs: one head each"),
        pytest.param(LLAMA_8B, 4, 32_768, id="8B over 4 GPUs"),
        pytest.param(LLAMA_8B, 16, 16_384, id="8 heads over 16 GPUs: each keeps a copy of one"),
        pytest.param(config("qwen2.5_7b"), 4, 14_336, id="Qwen2.5-7B over 4 GPUs"),
        pytest.param(config("gpt_oss_120b"), 2, 36_864, id="gpt-oss-120b over 2 GPUs"),
        pytest.param(DEEPSEEK_V2_LITE, 8, 31_104, id="a latent is the same on every GPU"),
    ],
)
def test_bytes_per_token_on_each_gpu(given, tp, token_bytes):
    assert geometry(given).token_bytes(tp) == token_bytes


BAMBA = {
    "model_type": "granitemoehybrid",
    "hidden_size": 1536,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "layer_types": ["mamba", "mamba", "mamba", "attention"],
    "mamba_n_heads": 48,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_d_conv": 4,
    "mamba_n_groups": 1,
}
NEMOTRON_H = {
    "model_type": "nemotron_h",
    "hidden_size": 4096,
    "num_hidden_layers": 6,
    "hybrid_override_pattern": "M-M*-E",
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "attention_head_dim": 128,
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "ssm_state_size": 128,
    "conv_kernel": 4,
    "n_groups": 8,
}
JAMBA = {
    "model_type": "jamba",
    "hidden_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "attn_layer_period": 8,
    "attn_layer_offset": 4,
    "mamba_expand": 2,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
}
MINIMAX = {
    "model_type": "minimax",
    "hidden_size": 6144,
    "num_hidden_layers": 8,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1],
}
LFM2 = {
    "model_type": "lfm2",
    "hidden_size": 2048,
    "num_hidden_layers": 3,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "layer_types": ["conv", "conv", "full_attention"],
    "conv_L_cache": 3,
}


@pytest.mark.parametrize(
    ("given", "kinds", "state_bytes"),
    [
        # Mamba 2: (inner + 2 * groups * state) * (kernel - 1) * 2 + heads * head * state * 4
        pytest.param(BAMBA, {"L": 3, "F": 1}, (3072 + 2 * 128) * 3 * 2 + 48 * 64 * 128 * 4, id="Granite 4"),
        pytest.param(
            NEMOTRON_H,
            {"L": 2, "F": 1, "N": 3},
            (8192 + 2 * 8 * 128) * 3 * 2 + 128 * 64 * 128 * 4,
            id="Nemotron-H",
        ),
        # Mamba 1: inner * (kernel - 1) * 2 + inner * state * 4
        pytest.param(JAMBA, {"L": 7, "F": 1}, 8192 * 3 * 2 + 8192 * 16 * 4, id="Jamba"),
        pytest.param(MINIMAX, {"L": 7, "F": 1}, 64 * 128 * 128 * 4, id="MiniMax has a square per head"),
        pytest.param(LFM2, {"L": 2, "F": 1}, 2048 * 2 * 2, id="LFM2 has a convolution alone"),
    ],
)
def test_hybrids_keep_a_state_in_their_linear_layers(given, kinds, state_bytes):
    layers = geometry(given).layers
    letters = {Kind.LINEAR: "L", Kind.FULL: "F", Kind.NONE: "N"}
    found = [letters[layer.kind] for layer in layers]
    assert {letter: found.count(letter) for letter in set(found)} == kinds
    assert {layer.state.bytes() for layer in layers if layer.state} == {state_bytes}
    assert parameters(given) is None, "what the formula does not hold for is not counted"


def test_one_group_of_a_mamba_layer_is_copied_to_every_gpu():
    state = State(key_heads=1, value_heads=48, key_dim=128, value_dim=64, conv=4)
    assert state.bytes(2) == (24 * 64 + 2 * 128) * 3 * 2 + 24 * 64 * 128 * 4


def test_multi_query_attention_has_one_head():
    falcon = {"n_head": 71, "hidden_size": 4544, "n_layer": 32, "multi_query": True, "model_type": "falcon"}
    assert geometry(falcon).kv_heads == 1
    assert geometry(falcon).token_bytes() == 2 * 64 * 2 * 32
    newer = {
        **falcon,
        "n_head": 128,
        "hidden_size": 8192,
        "num_kv_heads": 8,
        "new_decoder_architecture": True,
    }
    assert geometry(newer).kv_heads == 8


def test_layers_before_a_switched_on_window_stay_full():
    found = geometry(config("qwen2.5_7b", use_sliding_window=True, max_window_layers=20))
    assert [layer.kind for layer in found.layers] == [Kind.FULL] * 20 + [Kind.SLIDING] * 8


@pytest.mark.parametrize(
    ("given", "tp", "named"),
    [
        pytest.param(config("llama3_1"), 8, None, id="64 heads and 8 over 8"),
        pytest.param(config("llama3_1"), 16, None, id="over 16: heads are copied"),
        pytest.param(config("llama3_1"), 3, "64 attention heads", id="over 3"),
        pytest.param(
            config("llama3_1", num_attention_heads=24, num_key_value_heads=6, head_dim=128),
            4,
            "6 key-value heads",
            id="24 heads and 6 over 4 never start",
        ),
        pytest.param(DEEPSEEK_V2_LITE, 16, None, id="a latent asks for query heads alone"),
        pytest.param(QWEN3_6_35B, 16, None, id="16 heads of each kind over 16"),
        pytest.param(
            {**QWEN3_6_35B, "linear_num_key_heads": 4},
            8,
            "4 key heads of the linear",
            id="linear heads divide too",
        ),
        pytest.param(
            config("qwen3_30b", quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]}),
            4,
            "768 in blocks of 128",
            id="an expert of 768 in blocks of 128 over 4",
        ),
        pytest.param(
            config("qwen3_30b", quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]}),
            2,
            None,
            id="over 2 the blocks stay whole",
        ),
        pytest.param(
            config("qwen2.5_72b", quantization_config={"quant_method": "awq", "group_size": 128}),
            4,
            "29568 in blocks of 128",
            id="groups of AWQ that would be cut",
        ),
        pytest.param(
            {**config("llama3_1"), "vision_config": {"num_attention_heads": 12}},
            8,
            "12 vision heads",
            id="heads of a vision tower",
        ),
    ],
)
def test_what_a_split_must_divide(given, tp, named):
    refused = refuse_split("m", geometry(given), tp)
    assert (refused is None) is (named is None)
    if refused:
        assert named in refused.message


def test_every_stage_of_a_pipeline_has_a_layer_and_none_is_lost():
    layers = geometry(config("llama3_1")).layers
    assert [len(part) for part in stages(layers, 3)] == [27, 27, 26]
    assert refuse_split("m", geometry(config("llama3_1")), 8, 81).code == "LayersNotEnough"


def test_a_linear_layer_keeps_a_state_and_nothing_per_token():
    layer = next(layer for layer in geometry(QWEN3_6_35B).layers if layer.kind is Kind.LINEAR)
    assert layer.token_bytes() == 0
    assert layer.state == State(16, 32, 128, 128, 4)
    assert layer.state.bytes() == 2_146_304


def test_parameters_of_linear_attention_are_not_guessed():
    assert parameters(QWEN3_6_35B) is None


def test_an_index_adds_its_bytes_to_a_latent():
    plain = geometry(DEEPSEEK_V2_LITE).layers[0].token_bytes()
    assert geometry({**DEEPSEEK_V2_LITE, "index_head_dim": 128}).layers[0].token_bytes() == plain + 132


def test_quantised_keys_and_values_count_their_scales():
    layer = Layer(Kind.FULL, kv_heads=8, key_dim=64, value_dim=64)
    assert layer.token_bytes(1, 34 / 32, 18 / 32) == 8 * 64 * (34 + 18) // 32


def test_multimodal_gemma_takes_what_its_class_leaves_out():
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    }
    given = {"model_type": "gemma3", "text_config": text, "vision_config": {}}
    found = geometry(given)
    assert (found.vocabulary, found.attention_heads, found.kv_heads) == (262208, 8, 4)
    # The card of gemma-3-4b says 3.88 billion for the language model.
    assert parameters(given) == pytest.approx(3.88e9, rel=0.001)


@pytest.mark.parametrize(
    ("given", "code", "named"),
    [
        pytest.param({}, "ConfigIncomplete", "num_hidden_layers", id="an empty file"),
        pytest.param(
            config("llama3_1", hidden_size="8192"), "ConfigIncomplete", "hidden_size", id="a number as a text"
        ),
        pytest.param(
            config("llama3_1", num_hidden_layers=True),
            "ConfigIncomplete",
            "num_hidden_layers",
            id="a yes in place of a number",
        ),
        pytest.param(
            config("llama3_1", num_hidden_layers=10**9),
            "ConfigContradicts",
            "at most 1024",
            id="absurdly deep",
        ),
        pytest.param(
            config("llama3_1", num_key_value_heads=7),
            "ConfigContradicts",
            "64",
            id="heads that do not divide",
        ),
        pytest.param(
            config("llama3_1", hidden_size=32),
            "ConfigContradicts",
            "hidden_size",
            id="less than one per head",
        ),
        pytest.param(
            config("gpt_oss_20b", num_hidden_layers=23),
            "ConfigContradicts",
            "24",
            id="one kind too many",
        ),
        pytest.param(
            config("gpt_oss_20b", sliding_window=None),
            "ConfigIncomplete",
            "sliding_window",
            id="layers that slide over nobody knows what",
        ),
        pytest.param(
            {**DEEPSEEK_V2_LITE, "qk_rope_head_dim": None},
            "ConfigIncomplete",
            "qk_rope_head_dim",
            id="a latent without its rotary part",
        ),
        pytest.param(
            config("llama3_1", layer_types=["mamba"] * 80),
            "ConfigIncomplete",
            "Mamba",
            id="Mamba layers without their sizes",
        ),
        pytest.param(
            {**QWEN3_6_35B, "linear_conv_kernel_dim": None},
            "ConfigIncomplete",
            "linear_conv_kernel_dim",
            id="linear layers without their shape",
        ),
        pytest.param(
            config("llama3_1", layer_types=["tape"]), "LayerTypeUnknown", "tape", id="a kind never heard of"
        ),
    ],
)
def test_a_configuration_that_lacks_something_is_refused_by_its_name(given, code, named):
    found = read(given)
    assert isinstance(found, Reason)
    assert found.code == code
    assert named in found.message


UNUSUAL = [DEEPSEEK_V2_LITE, QWEN3_6_35B, BAMBA, NEMOTRON_H, JAMBA, MINIMAX, LFM2]


@pytest.mark.parametrize(
    "given",
    [
        *(pytest.param(config(path.stem), id=path.stem) for path in sorted(CONFIGS.glob("*.json"))),
        *(pytest.param(given, id=given["model_type"]) for given in UNUSUAL),
        pytest.param(
            config("qwen3_30b", quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]}),
            id="blocks of a quantisation",
        ),
        pytest.param(
            {**config("llama3_1"), "vision_config": {"num_heads": 12}}, id="heads of a vision tower"
        ),
        pytest.param(
            config(
                "llama3_1",
                num_hidden_layers=4,
                layer_types=["chunked_attention"] * 4,
                attention_chunk_size=8192,
            ),
            id="chunks",
        ),
    ],
)
def test_what_a_version_keeps_of_its_configuration_gives_the_same_geometry(given):
    wanted, kept = geometry(given), facts(given)
    if kept["attention"] is None:
        assert {layer.kind for layer in wanted.layers} == {Kind.FULL}
        assert (wanted.experts, wanted.scale_block, wanted.vision_heads) == (0, 0, 0)
        return
    assert len(kept["attention"]) < 1024
    assert recall(kept["attention"]) == wanted
    resolved = {"attention": kept["attention"], "layers": kept["layers"], "format": "safetensors"}
    assert Facts.read("m", resolved).layout() == wanted


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "9" * 5000, "[" * 100_000, '{"layer_types": "XX"}'])
def test_a_text_that_describes_no_layers_is_planned_as_full(text):
    assert recall(text) is None
    plain = {"layers": 2, "hiddenSize": 64, "attentionHeads": 4, "vocabulary": 100, "attention": text}
    layout = Facts.read("m", plain).layout()
    assert [layer.kind for layer in layout.layers] == [Kind.FULL] * 2


def test_layers_of_unknown_kinds_are_left_to_be_planned_as_full():
    assert facts(config("gpt_oss_20b", layer_types=["tape"] * 24))["attention"] is None
