"""Read the geometry of a model from its config.json."""

import json
from collections.abc import Mapping
from typing import Any

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
    return known


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
