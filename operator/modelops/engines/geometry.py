"""What a model's layers keep for every token: layer kinds and key-value bytes, from its configuration.

Symbols, rules and goldens: research/engines.md 4.1, 4.3, 4.4.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any

from modelops.plan import Reason

Config = Mapping[str, Any]
"""A Hugging Face config.json as it was parsed."""

DTYPE_BYTES = {"float32": 4, "float": 4}
"""Bytes per element of the model's own type; every other type that engines serve has 2."""
MAX_LAYERS = 1024
MAX_NUMBER = 2**40
"""No size in a configuration is larger; what is, would only cost time."""


class Kind(StrEnum):
    """What a layer remembers; most values are those of ``layer_types`` in config.json."""

    FULL = "full_attention"
    SLIDING = "sliding_attention"
    CHUNKED = "chunked_attention"
    LINEAR = "linear_attention"
    """A state of fixed size: gated delta nets, Mamba, lightning attention, short convolutions."""
    MLA = "latent_attention"
    NONE = "mlp"
    """Nothing: a layer that only computes."""


@dataclass(frozen=True, slots=True)
class State:
    """The fixed memory of a linear-attention layer, per sequence.

    A gated delta net as its configuration says it.  Mamba 2 is one whose key heads are the groups, whose
    key dimension is the state size and whose value heads are its heads; Mamba 1 has the inner channels as
    value heads of dimension 1 and no key heads.

    Source: vLLM 0.33 ``MambaStateShapeCalculator``.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv: int

    def bytes(self, tp: int = 1, *, conv_element_bytes: int = 2) -> int:
        """Return bytes per sequence, layer and GPU: the convolution's tail, and the float32 matrix.

        With more GPUs than groups each keeps a copy of one.
        """
        key_heads, value_heads = math.ceil(self.key_heads / tp), math.ceil(self.value_heads / tp)
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
        if self.kind in (Kind.LINEAR, Kind.NONE):
            return 0
        value_element_bytes = value_element_bytes or element_bytes
        heads = 1 if self.kind is Kind.MLA else max(1, self.kv_heads // tp)
        per_head = self.key_dim * element_bytes + self.value_dim * value_element_bytes
        return math.ceil(heads * per_head) + self.indexer_bytes


@dataclass(frozen=True, slots=True)
class Geometry:
    """What decides how much memory a model's cache takes, and how it may be split."""

    layers: tuple[Layer, ...] = field(hash=False)
    hidden_size: int
    attention_heads: int
    kv_heads: int
    vocabulary: int
    """0: not known."""
    context_tokens: int
    """0: not known."""
    element_bytes: int = 2
    """Of the model's own type, which the cache takes over unless told otherwise."""
    experts: int = 0
    """Experts per layer; 0 for dense models."""
    inner_size: int = 0
    """Of the layer that a split cuts finest: an expert's, else the feed-forward's; 0: not known."""
    scale_block: int = 0
    """Rows of the inner size that share a quantisation scale, so that no split may cut them; 0: none."""
    vision_heads: int = 0
    runs: tuple[tuple[Layer, int], ...] = field(init=False, repr=False, compare=False)
    """Each different layer and how many there are: most models have one or two."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", tuple(Counter(self.layers).items()))

    def token_bytes(self, tp: int = 1, element_bytes: float | None = None) -> int:
        """Return bytes per token over all layers on each GPU, as if every layer kept every token."""
        size = element_bytes or self.element_bytes
        return sum(count * layer.token_bytes(tp, size) for layer, count in self.runs)


@lru_cache(maxsize=1024)
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


def refuse_split(name: str, geometry: Geometry, tp: int, pp: int = 1) -> Reason | None:
    """Return why *geometry* cannot be split over *tp* GPUs in each of *pp* stages; None: it can.

    The count divides the query heads, and divides or repeats the key-value heads; quantised blocks and
    the heads of a vision tower and of linear layers are not cut; every stage has a layer.

    Source: vllm-project/vllm#5951; research/engines.md 4.8.
    """
    if geometry.attention_heads % tp:
        return _not_divisible(name, f"{geometry.attention_heads} attention heads", tp)
    kv = geometry.kv_heads
    if any(layer.kv_heads for layer, _ in geometry.runs if layer.kind is not Kind.MLA) and (
        kv % tp if kv >= tp else tp % kv
    ):
        return _not_divisible(name, f"{kv} key-value heads, or be a multiple of them", tp)
    for state in (layer.state for layer, _ in geometry.runs if layer.state):
        if state.value_heads % tp:
            return _not_divisible(name, f"{state.value_heads} heads of the linear layers", tp)
        if state.key_heads % tp and state.key_heads != 1:
            return _not_divisible(name, f"{state.key_heads} key heads of the linear layers", tp)
    if geometry.vision_heads % tp:
        return _not_divisible(name, f"{geometry.vision_heads} vision heads", tp)
    block = geometry.scale_block
    if geometry.inner_size % tp or (block and geometry.inner_size // tp % block):
        blocks = f" in blocks of {block}" if block else ""
        return _not_divisible(name, f"the inner size {geometry.inner_size}{blocks}", tp)
    if len(geometry.layers) < pp:
        return Reason(
            "LayersNotEnough",
            f"{name}: needs at most one stage per layer, found {pp} for {len(geometry.layers)} layers; "
            "use fewer nodes",
        )
    return None


def _not_divisible(name: str, what: str, tp: int) -> Reason:
    return Reason(
        "HeadsNotDivisible",
        f"{name}: the GPU count must divide {what}, found {tp}; set accelerator.count to Auto",
    )


def stages(layers: tuple[Layer, ...], pp: int) -> list[tuple[Layer, ...]]:
    """Return the layers of each pipeline stage; the first stages hold one more where it does not come out."""
    size, more = divmod(len(layers), pp)
    ends = [0]
    for stage in range(pp):
        ends.append(ends[-1] + size + (stage < more))
    return [layers[start:end] for start, end in pairwise(ends)]


# --- reading -----------------------------------------------------------------------------------------

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

OTHER_NAMES = {
    "n_layer": "num_hidden_layers",
    "num_layers": "num_hidden_layers",
    "n_embd": "hidden_size",
    "d_model": "hidden_size",
    "n_head": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "n_positions": "max_position_embeddings",
    "n_ctx": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
    "max_sequence_length": "max_position_embeddings",
}
"""What older families call the same, in the order they are looked for."""

PATTERNS = {"gemma3": 6, "gemma2": 2, "cohere2": 4}
"""Every how many layers one is full, where config.json leaves the pattern out, by start of model_type."""

NAMED_LAYERS = {
    **{str(kind): kind for kind in Kind if kind is not Kind.MLA},
    "attention": Kind.FULL,
    "mamba": Kind.LINEAR,
    "mamba2": Kind.LINEAR,
    "conv": Kind.LINEAR,
    "moe": Kind.NONE,
    **{kind.name[0]: kind for kind in Kind if kind is not Kind.MLA},
}
"""What ``layer_types`` and ``layers_block_type`` may hold; a text holds the first letters of the kinds."""
PATTERN_LETTERS = {"M": Kind.LINEAR, "*": Kind.FULL, "-": Kind.NONE, "E": Kind.NONE}
"""Nemotron-H writes its layers as one word."""

NEEDED = ("num_hidden_layers", "hidden_size", "num_attention_heads")
DELTA_NET = (
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_key_head_dim",
    "linear_value_head_dim",
    "linear_conv_kernel_dim",
)
STATES: tuple[tuple[str, ...], ...] = (
    DELTA_NET,
    ("mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_d_conv", "mamba_n_groups"),
    ("mamba_num_heads", "mamba_head_dim", "ssm_state_size", "conv_kernel", "n_groups"),
    ("mamba_expand", "mamba_d_state", "mamba_d_conv"),
    ("attn_type_list",),
    ("conv_L_cache",),
)
"""By which keys each family describes its linear layers; the first whose keys are all there counts."""


def text_part(config: Config) -> Config:
    """Return the part of config.json that describes the language model, with its class's defaults."""
    parts = (config.get("text_config"), config.get("llm_config"))
    text: Config = next((part for part in parts if part and isinstance(part, Mapping)), config)
    if text is not config:
        outer = ("tie_word_embeddings", "torch_dtype", "dtype", "quantization_config")
        text = {**{key: config[key] for key in outer if key in config}, **text}
    if str(text.get("model_type", "")).startswith("gemma3"):
        text = {**GEMMA3_DEFAULTS, **{key: value for key, value in text.items() if value is not None}}
    named = {new: text[old] for old, new in reversed(OTHER_NAMES.items()) if old in text and new not in text}
    return {**text, **named} if named else text


def read(config: Config) -> Geometry | Reason:
    """Return the geometry that config.json describes, or what it lacks or contradicts."""
    text = text_part(config)
    refused = _refuse_layers(text) or _refuse_missing(text, NEEDED) or _refuse_contradiction(text)
    if refused:
        return refused
    needed = _needed(text)
    if isinstance(needed, Reason):
        return needed
    refused = _refuse_missing(text, needed)
    if refused:
        return refused
    return Geometry(
        layers=_layers(text),
        hidden_size=text["hidden_size"],
        attention_heads=text["num_attention_heads"],
        kv_heads=kv_heads(text),
        vocabulary=number(text, "vocab_size"),
        context_tokens=number(text, "max_position_embeddings"),
        element_bytes=DTYPE_BYTES.get(str(text.get("torch_dtype") or text.get("dtype")), 2),
        experts=experts(text),
        inner_size=_inner_size(text),
        scale_block=_scale_block(text.get("quantization_config")),
        vision_heads=_vision_heads(config),
    )


@lru_cache(maxsize=1024)
def recall(attention: str) -> Geometry | None:
    """Return the geometry that the text of a version's facts describes; None when it describes none."""
    try:
        config = json.loads(attention)
    except (ValueError, RecursionError):
        return None
    found = read(config) if isinstance(config, dict) else None
    return found if isinstance(found, Geometry) else None


def _refuse_layers(text: Config) -> Reason | None:
    """Refuse kinds of layers that nobody here knows, and lists that are not as long as the model."""
    for key in ("layer_types", "layers_block_type", "hybrid_override_pattern", "attn_type_list"):
        listed = text.get(key)
        if not listed:
            continue
        known: Any = {
            "attn_type_list": {0: 1, 1: 1},
            "hybrid_override_pattern": PATTERN_LETTERS,
        }.get(key, NAMED_LAYERS)
        names = list(listed) if isinstance(listed, list | str) else [listed]
        unknown = sorted({str(n)[:40] for n in names if not isinstance(n, int | str) or n not in known})
        if unknown:
            return Reason(
                "LayerTypeUnknown",
                f"config.json: {key} may hold {', '.join(map(str, known))}, found {', '.join(unknown)}; "
                "set accelerator.count and engine.contextTokens by hand",
            )
        if len(names) != text.get("num_hidden_layers"):
            return Reason(
                "ConfigContradicts",
                f"config.json: {key} needs one entry per layer, found {len(names)} for "
                f"{text.get('num_hidden_layers')} layers; correct it",
            )
    return None


def _refuse_missing(text: Config, needed: tuple[str, ...]) -> Reason | None:
    missing = [key for key in needed if not number(text, key)]
    if missing:
        return Reason(
            "ConfigIncomplete",
            f"config.json: needs {', '.join(missing)} as numbers, found none; "
            "set accelerator.count and engine.contextTokens by hand",
        )
    return None


def _refuse_contradiction(text: Config) -> Reason | None:
    layers, heads, kv = text["num_hidden_layers"], text["num_attention_heads"], kv_heads(text)
    if layers > MAX_LAYERS:
        return Reason(
            "ConfigContradicts",
            f"config.json: num_hidden_layers may be at most {MAX_LAYERS}, found {layers}; correct it",
        )
    if heads % kv:
        return Reason(
            "ConfigContradicts",
            f"config.json: num_key_value_heads must divide {heads} attention heads, found {kv}; correct it",
        )
    if head_dim(text) < 1:
        return Reason(
            "ConfigContradicts",
            f"config.json: hidden_size needs at least one element per head, found {text['hidden_size']} for "
            f"{heads} heads; correct it",
        )
    return None


def _needed(text: Config) -> tuple[str, ...] | Reason:
    found = kinds(text)
    needed: tuple[str, ...] = ("qk_rope_head_dim",) if text.get("kv_lora_rank") else ()
    if Kind.SLIDING in found:
        needed += ("sliding_window",)
    if Kind.CHUNKED in found:
        needed += ("attention_chunk_size",)
    if Kind.LINEAR in found and _state_keys(text) is None:
        return Reason(
            "ConfigIncomplete",
            f"config.json: needs {', '.join(DELTA_NET)} or the sizes of Mamba layers as numbers, found none; "
            "set accelerator.count and engine.contextTokens by hand",
        )
    return needed


def number(text: Config, key: str) -> int:
    """Return a count from config.json; 0 where it is absent or none."""
    value = text.get(key)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_NUMBER
    return int(value) if is_count and value is not None else 0


def kv_heads(text: Config) -> int:
    """Return the key-value heads; without the key every head is its own, but for multi-query attention."""
    if text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        return 1
    return number(text, "num_key_value_heads") or int(text["num_attention_heads"])


def head_dim(text: Config) -> int:
    """Return the head dimension, which several families set apart from hidden size / heads."""
    return (
        number(text, "head_dim")
        or number(text, "attention_head_dim")
        or text["hidden_size"] // text["num_attention_heads"]
    )


def experts(text: Config) -> int:
    """Return the routed experts of a layer, under the names families use; 0 for dense models."""
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if number(text, key):
            return number(text, key)
    return 0


def kinds(text: Config) -> tuple[Kind, ...]:
    """Return the kind of each layer by the first rule that applies.  Source: research/engines.md 4.3."""
    named = text.get("layer_types") or text.get("layers_block_type")
    if named:
        return tuple(NAMED_LAYERS[name] for name in named)
    if text.get("hybrid_override_pattern"):
        return tuple(PATTERN_LETTERS[letter] for letter in text["hybrid_override_pattern"])
    if text.get("attn_type_list"):
        return tuple(Kind.FULL if full else Kind.LINEAR for full in text["attn_type_list"])
    count = int(text["num_hidden_layers"])
    interval, offset = _full_every(text)
    if interval:
        return tuple(Kind.FULL if i % interval == offset else Kind.LINEAR for i in range(count))
    if text.get("sliding_window") and text.get("use_sliding_window") is not False:
        pattern = _pattern(text)
        # Qwen 2 counts its first layers as full once the window is switched on.
        full = number(text, "max_window_layers") if text.get("use_sliding_window") is True else 0
        # Without a pattern every layer slides (Mistral v0.1).
        return tuple(
            Kind.FULL if i < full or (pattern and (i + 1) % pattern == 0) else Kind.SLIDING
            for i in range(count)
        )
    # Llama 4 chunks some layers; no engine's number confirms the rule yet, and full is the upper bound.
    return (Kind.FULL,) * count


def _full_every(text: Config) -> tuple[int, int]:
    """Return every how many layers one is full and which, where the others are linear; 0: no such model."""
    interval = number(text, "full_attention_interval")
    if not interval and str(text.get("model_type", "")).startswith(("qwen3_5", "qwen3_next")):
        interval = 4
    if interval:
        return interval, interval - 1
    if number(text, "attn_layer_period"):  # Jamba
        return number(text, "attn_layer_period"), number(text, "attn_layer_offset")
    return 0, 0


def _pattern(text: Config) -> int:
    if number(text, "sliding_window_pattern"):
        return number(text, "sliding_window_pattern")
    model_type = str(text.get("model_type", ""))
    return next((p for family, p in PATTERNS.items() if model_type.startswith(family)), 0)


def _layers(text: Config) -> tuple[Layer, ...]:
    found = kinds(text)
    made = {
        Kind.FULL: _latent(text) if text.get("kv_lora_rank") else _heads(text, Kind.FULL),
        Kind.SLIDING: _heads(text, Kind.SLIDING, number(text, "sliding_window")),
        Kind.CHUNKED: _heads(text, Kind.CHUNKED, number(text, "attention_chunk_size")),
        Kind.NONE: Layer(Kind.NONE),
    }
    if Kind.LINEAR in found:
        made[Kind.LINEAR] = Layer(Kind.LINEAR, state=_state(text))
    return tuple(made[kind] for kind in found)


def _heads(text: Config, kind: Kind, window: int | None = None) -> Layer:
    return Layer(kind, kv_heads(text), head_dim(text), head_dim(text), window)


def _latent(text: Config) -> Layer:
    index = number(text, "index_head_dim")
    return Layer(
        Kind.MLA,
        kv_heads=1,
        key_dim=text["kv_lora_rank"] + text["qk_rope_head_dim"],
        indexer_bytes=index + index // 128 * 4,
    )


def _state_keys(text: Config) -> tuple[str, ...] | None:
    for keys in STATES:
        if all(text.get(key) if key == "attn_type_list" else number(text, key) for key in keys):
            return keys
    return None


def _state(text: Config) -> State:
    keys = _state_keys(text)
    assert keys is not None, "asked before"
    if keys == ("attn_type_list",):  # MiniMax: a square matrix per head, no convolution
        return State(0, text["num_attention_heads"], head_dim(text), head_dim(text), 1)
    if keys == ("conv_L_cache",):  # LFM2: a convolution alone
        return State(0, text["hidden_size"], 0, 1, text["conv_L_cache"])
    numbers = [text[key] for key in keys]
    if keys[0] == "linear_num_key_heads":
        key_heads, value_heads, key_dim, value_dim, conv = numbers
        return State(key_heads, value_heads, key_dim, value_dim, conv)
    if keys[0] == "mamba_expand":  # Jamba: Mamba 1
        expand, size, conv = numbers
        return State(0, expand * text["hidden_size"], size, 1, conv)
    heads, dim, size, conv, groups = numbers
    return State(groups, heads, size, dim, conv)


def _inner_size(text: Config) -> int:
    inner = number(text, "moe_intermediate_size") if experts(text) else 0
    return inner or number(text, "intermediate_size")


def _scale_block(quantization: Any) -> int:
    """Return how many rows of a weight share a scale, as far as a split must not cut them.

    Source: research/engines.md 4.8 for FP8; vLLM 0.33 refuses AWQ and GPTQ groups that are cut.
    """
    if not isinstance(quantization, Mapping):
        return 0
    block = quantization.get("weight_block_size")
    if isinstance(block, list) and block and isinstance(block[0], int):
        return max(0, block[0])
    if quantization.get("quant_method") in ("awq", "gptq"):
        return number(quantization, "group_size")
    return 0


def _vision_heads(config: Config) -> int:
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        return 0
    return number(vision, "num_attention_heads") or number(vision, "num_heads")
