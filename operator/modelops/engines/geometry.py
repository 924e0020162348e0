"""What a model's layers keep for every token: layer kinds and key-value bytes, from its configuration.

Symbols, rules and goldens: research/engines.md 4.1, 4.3, 4.4.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelops.plan import Reason

Config = Mapping[str, Any]
"""A Hugging Face config.json as it was parsed."""

DTYPE_BYTES = {"float32": 4, "float": 4}
"""Bytes per element of the model's own type; every other type that engines serve has 2."""


class Kind(StrEnum):
    """What a layer remembers; the values are those of ``layer_types`` in config.json, but for MLA."""

    FULL = "full_attention"
    SLIDING = "sliding_attention"
    CHUNKED = "chunked_attention"
    LINEAR = "linear_attention"
    MLA = "latent_attention"


@dataclass(frozen=True, slots=True)
class State:
    """The fixed memory of a linear-attention layer (gated delta net), per sequence."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv: int

    def bytes(self, tp: int = 1, *, conv_element_bytes: int = 2) -> int:
        """Return bytes per sequence, layer and GPU: the convolution's tail, and the float32 matrix."""
        key_heads, value_heads = self.key_heads // tp, self.value_heads // tp
        tail = (2 * key_heads * self.key_dim + value_heads * self.value_dim) * (self.conv - 1)
        return tail * conv_element_bytes + value_heads * self.key_dim * self.value_dim * 4


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's cache: for MLA ``key_dim`` is the latent and its rotary part, shared by all heads."""

    kind: Kind
    kv_heads: int = 0
    key_dim: int = 0
    value_dim: int = 0
    window_tokens: int | None = None
    """Of sliding and chunked layers; None elsewhere."""
    indexer_bytes: int = 0
    """Bytes per token of a sparse-attention index on top of MLA."""
    state: State | None = None

    def token_bytes(self, tp: int = 1, element_bytes: float = 2, value_element_bytes: float = 0) -> int:
        """Return bytes per token on each of *tp* GPUs; with more GPUs than heads, heads are copied.

        ``value_element_bytes`` 0 means the same as for keys.  A latent is the same on every GPU.
        """
        if self.kind is Kind.LINEAR:
            return 0
        value_element_bytes = value_element_bytes or element_bytes
        heads = 1 if self.kind is Kind.MLA else max(1, self.kv_heads // tp)
        per_head = self.key_dim * element_bytes + self.value_dim * value_element_bytes
        return math.ceil(heads * per_head) + self.indexer_bytes


@dataclass(frozen=True, slots=True)
class Geometry:
    """What decides how much memory a model's cache takes, and how it may be split."""

    layers: tuple[Layer, ...]
    hidden_size: int
    attention_heads: int
    kv_heads: int
    vocabulary: int
    context_tokens: int
    element_bytes: int = 2
    """Of the model's own type, which the cache takes over unless told otherwise."""
    experts: int = 0
    """Experts per layer; 0 for dense models."""

    def token_bytes(self, tp: int = 1, element_bytes: float | None = None) -> int:
        """Return bytes per token over all layers on each GPU, as if every layer kept every token."""
        size = element_bytes or self.element_bytes
        return sum(layer.token_bytes(tp, size) for layer in self.layers)


def uniform(
    *,
    layers: int,
    hidden_size: int,
    attention_heads: int,
    kv_heads: int,
    head_dim: int,
    vocabulary: int,
    context_tokens: int,
    experts: int = 0,
) -> Geometry:
    """Return a geometry whose layers all keep every token: an upper bound where windows are not known."""
    layer = Layer(Kind.FULL, kv_heads, head_dim, head_dim)
    return Geometry(
        layers=(layer,) * layers,
        hidden_size=hidden_size,
        attention_heads=attention_heads,
        kv_heads=kv_heads,
        vocabulary=vocabulary,
        context_tokens=context_tokens,
        experts=experts,
    )


GEMMA3_DEFAULTS = {
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}
"""Multimodal Gemma 3 leaves these out and means its class's own.  Source: transformers Gemma3TextConfig."""

PATTERNS = {"gemma3": 6, "gemma2": 2}
"""Every how many layers one is full, where config.json leaves the pattern out, by start of model_type."""

NEEDED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings")
LINEAR_NEEDED = (
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_key_head_dim",
    "linear_value_head_dim",
    "linear_conv_kernel_dim",
)


def text_part(config: Config) -> Config:
    """Return the part of config.json that describes the language model, with its class's defaults."""
    text: Config = config.get("text_config") or config.get("llm_config") or config
    if text is not config and "tie_word_embeddings" in config:
        text = {"tie_word_embeddings": config["tie_word_embeddings"], **text}
    if text is not config and "torch_dtype" in config:
        text = {"torch_dtype": config["torch_dtype"], **text}
    if str(text.get("model_type", "")).startswith("gemma3"):
        text = {**GEMMA3_DEFAULTS, **text}
    return text


def read(config: Config) -> Geometry | Reason:
    """Return the geometry that config.json describes, or what it lacks."""
    text = text_part(config)
    unknown = sorted(set(text.get("layer_types") or ()) - set(Kind))
    if unknown:
        return Reason(
            "LayerTypeUnknown",
            f"config.json: layer_types may hold {', '.join(Kind)}, found {', '.join(unknown)}; "
            "set accelerator.count and engine.contextTokens by hand",
        )
    missing = [key for key in _needed(text) if not isinstance(text.get(key), int)]
    if missing:
        return Reason(
            "ConfigIncomplete",
            f"config.json: needs {', '.join(missing)} as numbers, found none; "
            "set accelerator.count and engine.contextTokens by hand",
        )
    return Geometry(
        layers=_layers(text),
        hidden_size=text["hidden_size"],
        attention_heads=text["num_attention_heads"],
        kv_heads=kv_heads(text),
        vocabulary=text["vocab_size"],
        context_tokens=text["max_position_embeddings"],
        element_bytes=DTYPE_BYTES.get(str(text.get("torch_dtype") or text.get("dtype")), 2),
        experts=experts(text),
    )


def _needed(text: Config) -> tuple[str, ...]:
    latent = ("qk_rope_head_dim",) if text.get("kv_lora_rank") else ()
    layered = isinstance(text.get("num_hidden_layers"), int)
    linear = LINEAR_NEEDED if layered and Kind.LINEAR in kinds(text) else ()
    return NEEDED + latent + linear


def kv_heads(text: Config) -> int:
    """Return the key-value heads; without the key every head is its own (multi-head attention)."""
    return int(text.get("num_key_value_heads") or text["num_attention_heads"])


def head_dim(text: Config) -> int:
    """Return the head dimension, which several families set apart from hidden size / heads."""
    return int(text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"])


def experts(text: Config) -> int:
    """Return the routed experts of a layer, under the three names families use; 0 for dense models."""
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if text.get(key):
            return int(text[key])
    return 0


def kinds(text: Config) -> tuple[Kind, ...]:
    """Return the kind of each layer by the first rule that applies.  Source: research/engines.md 4.3."""
    named = text.get("layer_types")
    if named:
        return tuple(Kind(name) for name in named)
    count = int(text["num_hidden_layers"])
    interval = _linear_interval(text)
    if interval:
        return tuple(Kind.FULL if (i + 1) % interval == 0 else Kind.LINEAR for i in range(count))
    if text.get("sliding_window") and text.get("use_sliding_window") is not False:
        pattern = _pattern(text)
        # Without a pattern every layer slides (Mistral v0.1).
        return tuple(Kind.FULL if pattern and (i + 1) % pattern == 0 else Kind.SLIDING for i in range(count))
    # Llama 4 chunks some layers; no engine's number confirms the rule yet, and full is the upper bound.
    return (Kind.FULL,) * count


def _linear_interval(text: Config) -> int:
    if text.get("full_attention_interval"):
        return int(text["full_attention_interval"])
    return 4 if str(text.get("model_type", "")).startswith(("qwen3_5", "qwen3_next")) else 0


def _pattern(text: Config) -> int:
    if text.get("sliding_window_pattern"):
        return int(text["sliding_window_pattern"])
    model_type = str(text.get("model_type", ""))
    return next((p for family, p in PATTERNS.items() if model_type.startswith(family)), 0)


def _layers(text: Config) -> tuple[Layer, ...]:
    full = _latent(text) if text.get("kv_lora_rank") else _heads(text, Kind.FULL)
    made = {
        Kind.FULL: full,
        Kind.SLIDING: _heads(text, Kind.SLIDING, text.get("sliding_window")),
        Kind.CHUNKED: _heads(text, Kind.CHUNKED, text.get("attention_chunk_size")),
    }
    return tuple(_linear(text) if kind is Kind.LINEAR else made[kind] for kind in kinds(text))


def _heads(text: Config, kind: Kind, window: int | None = None) -> Layer:
    return Layer(kind, kv_heads(text), head_dim(text), head_dim(text), window)


def _latent(text: Config) -> Layer:
    index = int(text.get("index_head_dim") or 0)
    return Layer(
        Kind.MLA,
        kv_heads=1,
        key_dim=text["kv_lora_rank"] + text["qk_rope_head_dim"],
        indexer_bytes=index + index // 128 * 4,
    )


def _linear(text: Config) -> Layer:
    state = State(
        key_heads=text["linear_num_key_heads"],
        value_heads=text["linear_num_value_heads"],
        key_dim=text["linear_key_head_dim"],
        value_dim=text["linear_value_head_dim"],
        conv=text["linear_conv_kernel_dim"],
    )
    return Layer(Kind.LINEAR, state=state)
