"""Read the geometry of a model from its config.json."""

import json
from collections.abc import Mapping
from typing import Any

from modelops.artifacts.canonical import canonical
from modelops.artifacts.facts import Known
from modelops.artifacts.header import broken
from modelops.plan import Reason

MAX_CONFIG_BYTES = 4 * 2**20

_NAMES: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hiddenSize": ("hidden_size", "n_embd", "d_model"),
    "attentionHeads": ("num_attention_heads", "n_head"),
    "contextTokens": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
    "vocabulary": ("vocab_size",),
}
"""Our field, and the keys that model families use for it, in the order they are looked for."""


MAX_ATTENTION = 1024
"""Letters of the fact ``attention``."""
_LETTERS: Mapping[str, str] = {
    "full_attention": "F",
    "attention": "F",
    "sliding_attention": "S",
    "chunked_attention": "C",
    "linear_attention": "L",
    "mamba": "L",
    "mamba2": "L",
    "conv": "L",
    "mlp": "N",
    "moe": "N",
}
"""One letter for each kind of layer, so that a list of a hundred layers stays short."""
_UNUSUAL = (
    "layer_types", "layers_block_type", "hybrid_override_pattern", "attn_type_list", "attn_layer_period",
    "full_attention_interval", "sliding_window", "kv_lora_rank", "multi_query", "num_experts",
    "num_local_experts", "n_routed_experts", "vision_config", "quantization_config",
)  # fmt: skip
"""Without any of these every layer is plain full attention, which the other facts tell."""
_SIZES = (
    "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
    "attention_head_dim", "vocab_size", "max_position_embeddings", "full_attention_interval",
    "attn_layer_period", "attn_layer_offset", "sliding_window", "sliding_window_pattern", "max_window_layers",
    "attention_chunk_size", "kv_lora_rank", "qk_rope_head_dim", "index_head_dim", "linear_num_key_heads",
    "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim", "linear_conv_kernel_dim",
    "mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_d_conv", "mamba_n_groups", "mamba_num_heads",
    "mamba_head_dim", "mamba_expand", "ssm_state_size", "conv_kernel", "n_groups", "conv_L_cache",
    "num_experts", "num_local_experts", "n_routed_experts", "intermediate_size", "moe_intermediate_size",
    "n_layer", "n_embd", "n_head", "num_kv_heads",
)  # fmt: skip
_WORDS = ("model_type", "torch_dtype", "dtype")
_CLAIMS = ("use_sliding_window", "multi_query", "new_decoder_architecture")


def read(data: bytes, file: str = "config.json") -> dict[str, Any] | Reason:
    """Return config.json as an object, or why it is none."""
    if len(data) > MAX_CONFIG_BYTES:
        return broken(file, f"at most {MAX_CONFIG_BYTES} bytes", f"{len(data)}")
    try:
        config = json.loads(data)
    except (ValueError, RecursionError):  # JSON, UTF-8, or a number of thousands of digits
        return broken(file, "JSON in UTF-8", "something else")
    if not isinstance(config, dict):
        return broken(file, "a JSON object", f"a {type(config).__name__}")
    return config


def facts(config: Mapping[str, Any]) -> Known:
    """Return what *config* tells; a key of a wrong type counts as absent.

    A model of several modes keeps its language part under ``text_config`` (or ``llm_config``).
    Absent ``num_key_value_heads`` means one per attention head, absent ``head_dim`` means
    hidden size / heads.  A window counts unless ``use_sliding_window`` is false (Qwen2.5 sets both).

    Source: research/engines.md 4.3.
    """
    parts = (config.get("text_config"), config.get("llm_config"))
    text: Mapping[str, Any] = next((part for part in parts if isinstance(part, dict)), {})
    both = {**config, **text}
    known: dict[str, int | str | bool | None] = {
        field: _integer(both, *names) for field, names in _NAMES.items()
    }
    heads, hidden = known["attentionHeads"], known["hiddenSize"]
    known["kvHeads"] = _integer(both, "num_key_value_heads", "num_kv_heads") or heads
    known["headDim"] = _integer(both, "head_dim")
    if known["headDim"] is None and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
        known["headDim"] = hidden // heads
    if both.get("use_sliding_window") is not False:
        known["slidingWindow"] = _integer(both, "sliding_window")
    known["architecture"] = _architecture(config)
    known["quantization"] = _quantization(config)
    known["remoteCode"] = has_remote_code(config) or None
    known["attention"] = attention(both)
    return known


def attention(config: Mapping[str, Any]) -> str | None:
    """Return what decides on the cache of each layer, as canonical JSON with the names of config.json.

    None where every layer is plain full attention, or where kinds of layers are not known here: then the
    cache is planned as if every layer kept every token.  Layer kinds are one letter each.
    """
    if not any(config.get(key) for key in _UNUSUAL):
        return None
    kept: dict[str, Any] = {key: config[key] for key in _CLAIMS if isinstance(config.get(key), bool)}
    kept |= {key: number for key in _SIZES if (number := _integer(config, key)) is not None}
    kept |= {key: config[key] for key in _WORDS if isinstance(config.get(key), str)}
    for key in ("layer_types", "layers_block_type"):
        if config.get(key):
            letters = _letters(config[key])
            if letters is None:
                return None
            kept[key] = letters
    pattern, flags = config.get("hybrid_override_pattern"), config.get("attn_type_list")
    if isinstance(pattern, str):
        kept["hybrid_override_pattern"] = pattern
    if isinstance(flags, list):
        kept["attn_type_list"] = [int(flag == 1) for flag in flags]
    kept |= _parts(config)
    try:
        text = canonical(kept).decode()
    except ValueError:
        return None
    return text if len(text) <= MAX_ATTENTION else None


def _letters(kinds: Any) -> str | None:
    if not isinstance(kinds, list) or not all(isinstance(kind, str) and kind in _LETTERS for kind in kinds):
        return None
    return "".join(_LETTERS[kind] for kind in kinds)


def _parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a split over GPUs must not cut: blocks of a quantisation, heads of a vision tower."""
    kept: dict[str, Any] = {}
    quantization, vision = config.get("quantization_config"), config.get("vision_config")
    if isinstance(quantization, dict):
        block, method = quantization.get("weight_block_size"), quantization.get("quant_method")
        kept["quantization_config"] = {
            **({"quant_method": method} if isinstance(method, str) else {}),
            **({"group_size": size} if (size := _integer(quantization, "group_size")) else {}),
            **({"weight_block_size": block} if _is_sizes(block) else {}),
        }
    if isinstance(vision, dict):
        heads = _integer(vision, "num_attention_heads", "num_heads")
        kept["vision_config"] = {"num_attention_heads": heads} if heads else {}
    return {key: part for key, part in kept.items() if part}


def _is_sizes(block: Any) -> bool:
    return (
        isinstance(block, list) and len(block) <= 4 and all(type(size) is int and size > 0 for size in block)
    )


def has_remote_code(config: Mapping[str, Any]) -> bool:
    """Tell whether loading this model would import Python from its own repository."""
    return any(
        isinstance(part, dict) and part.get("auto_map")
        for part in (config, config.get("text_config"), config.get("vision_config"))
    )


def _integer(config: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _architecture(config: Mapping[str, Any]) -> str | None:
    listed = config.get("architectures")
    if isinstance(listed, list) and listed and isinstance(listed[0], str):
        return listed[0]
    model_type = config.get("model_type")
    return model_type if isinstance(model_type, str) else None


def _quantization(config: Mapping[str, Any]) -> str | None:
    quantization = config.get("quantization_config")
    if isinstance(quantization, dict):
        method = quantization.get("quant_method")
        return method if isinstance(method, str) else None
    element = config.get("dtype", config.get("torch_dtype"))
    return element if isinstance(element, str) else None
