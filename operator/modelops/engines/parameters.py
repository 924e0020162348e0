"""How many parameters a configuration has and how many bytes they take, for when no file header says so.

Source of every term: research/engines.md 4.2; published counts are the test.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from modelops.engines.geometry import Config, Kind, experts, head_dim, kinds, kv_heads, number, text_part
from modelops.engines.quantization import Scheme

TIED_BY_CLASS = ("gemma", "cohere")
"""Families whose embeddings are tied when config.json does not say."""

FAMILIES = (
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "gemma",
    "gpt_oss",
    "deepseek_v2",
    "deepseek_v3",
    "kimi_k2",
    "phi3",
    "granite",
    "glm4_moe",
    "olmo2",
    "smollm3",
    "seed_oss",
    "ministral",
)
"""Beginnings of the model types whose terms are known here; of others no count is told."""
OTHERS = (
    "deepseek_v32",
    "llama4",
    "gemma3n",
    "granitemoe",
    "qwen2_vl",
    "qwen2_5_omni",
    "qwen3_omni",
    "olmo2_moe",
)
"""Beginnings that look like one of them and count differently."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some parameters: of which module, and whether they are a matrix that quantisation may touch."""

    module: str
    """As the checkpoint names it, without the name of the tensor."""
    count: int
    is_linear: bool = True


def knows(config: Config) -> bool:
    """Tell whether the terms of this family are known; a configuration without a type is a plain decoder."""
    family = _family(text_part(config))
    return not family or (family.startswith(FAMILIES) and not family.startswith(OTHERS))


def parameters(config: Config) -> int | None:
    """Return the number of parameters of the language model; None where the formula does not hold.

    It holds for dense, mixture-of-experts and MLA models, not for linear attention.
    """
    if not _holds(config):
        return None
    return sum(part.count for part in parts(config))


def tensor_bytes(config: Config) -> int | None:
    """Return the bytes of the tensors as they lie in the files; None where that cannot be told."""
    text = text_part(config)
    scheme = Scheme.read(text)
    if scheme is None or not _holds(config):
        return None
    return math.ceil(
        sum(part.count * scheme.bytes_of(part.module, is_linear=part.is_linear) for part in parts(config))
    )


def parts(config: Config) -> Iterator[Part]:
    """Yield everything that counts, module by module."""
    text = text_part(config)
    hidden, vocabulary = number(text, "hidden_size"), number(text, "vocab_size")
    yield Part("model.embed_tokens", vocabulary * hidden, is_linear=False)
    for layer in range(number(text, "num_hidden_layers")):
        name = f"model.layers.{layer}"
        yield from _latent_attention(text, name) if text.get("kv_lora_rank") else _attention(text, name)
        yield from _feed_forward(text, layer, name)
        yield Part(f"{name}.norms", _norms(text) * hidden, is_linear=False)
    yield Part("model.norm", hidden, is_linear=False)
    if not text.get("tie_word_embeddings", _family(text).startswith(TIED_BY_CLASS)):
        yield Part("lm_head", vocabulary * hidden)


def _holds(config: Config) -> bool:
    text = text_part(config)
    needed: tuple[str, ...] = ("vocab_size", "intermediate_size")
    if text.get("kv_lora_rank"):
        needed += ("qk_nope_head_dim", "v_head_dim")
    return (
        knows(config)
        and not {Kind.LINEAR, Kind.NONE} & set(kinds(text))
        and all(number(text, key) for key in needed)
    )


def _attention(text: Config, name: str) -> Iterator[Part]:
    hidden, dim = number(text, "hidden_size"), head_dim(text)
    query, key_value = number(text, "num_attention_heads") * dim, kv_heads(text) * dim
    yield Part(f"{name}.self_attn.q_proj", hidden * query)
    yield Part(f"{name}.self_attn.k_proj", hidden * key_value)
    yield Part(f"{name}.self_attn.v_proj", hidden * key_value)
    yield Part(f"{name}.self_attn.o_proj", query * hidden)
    family = _family(text)
    small = 0
    if family.startswith("qwen2"):
        small += query + 2 * key_value
    elif text.get("attention_bias"):
        small += query + 2 * key_value + (0 if family.startswith("glm4") else hidden)
    if family.startswith(("qwen3", "gemma3")) or (family.startswith("glm4") and text.get("use_qk_norm")):
        small += 2 * dim
    if family.startswith("olmo2"):
        small += query + key_value
    if family.startswith("gpt_oss"):
        small += number(text, "num_attention_heads")  # sinks
    yield Part(f"{name}.self_attn.small", small, is_linear=False)


def _latent_attention(text: Config, name: str) -> Iterator[Part]:
    hidden, heads = number(text, "hidden_size"), number(text, "num_attention_heads")
    latent, rope = number(text, "kv_lora_rank"), number(text, "qk_rope_head_dim")
    nope, value = number(text, "qk_nope_head_dim"), number(text, "v_head_dim")
    rank = number(text, "q_lora_rank")
    if rank:
        yield Part(f"{name}.self_attn.q_a_proj", hidden * rank)
        yield Part(f"{name}.self_attn.q_b_proj", rank * heads * (nope + rope))
    else:
        yield Part(f"{name}.self_attn.q_proj", hidden * heads * (nope + rope))
    yield Part(f"{name}.self_attn.kv_a_proj_with_mqa", hidden * (latent + rope))
    yield Part(f"{name}.self_attn.kv_b_proj", latent * heads * (nope + value))
    yield Part(f"{name}.self_attn.o_proj", heads * value * hidden)
    yield Part(f"{name}.self_attn.norms", rank + latent, is_linear=False)


def _feed_forward(text: Config, layer: int, name: str) -> Iterator[Part]:
    hidden, inner = number(text, "hidden_size"), number(text, "intermediate_size")
    count = experts(text)
    if not count or _is_dense(text, layer):
        yield Part(f"{name}.mlp.gate_proj", hidden * inner)
        yield Part(f"{name}.mlp.up_proj", hidden * inner)
        yield Part(f"{name}.mlp.down_proj", hidden * inner)
        yield Part(f"{name}.mlp.biases", 2 * inner + hidden if text.get("mlp_bias") else 0, is_linear=False)
        return
    inner = number(text, "moe_intermediate_size") or inner
    yield Part(f"{name}.mlp.experts", count * 3 * hidden * inner)
    shared = number(text, "n_shared_experts") * inner
    shared += number(text, "shared_expert_intermediate_size")
    if shared:
        yield Part(f"{name}.mlp.shared_experts", 3 * hidden * shared)
    small = hidden * count  # the router, which no scheme quantises
    if text.get("shared_expert_intermediate_size"):
        small += hidden
    if text.get("topk_method") == "noaux_tc" or _family(text).startswith("glm4_moe"):
        small += count
    if _family(text).startswith("gpt_oss"):
        small += count * (2 * inner + hidden) + count
    yield Part(f"{name}.mlp.router", small, is_linear=False)


def _is_dense(text: Config, layer: int) -> bool:
    dense = text.get("mlp_only_layers")
    return (
        layer < number(text, "first_k_dense_replace")
        or (isinstance(dense, list) and layer in dense)
        or (layer + 1) % (number(text, "decoder_sparse_step") or 1) != 0
        or layer % (number(text, "moe_layer_freq") or 1) != 0
    )


def _norms(text: Config) -> int:
    return 4 if _family(text).startswith(("gemma2", "gemma3")) else 2


def _family(text: Config) -> str:
    return str(text.get("model_type") or "")


UNKNOWN_VISION_BYTES = 3 * 2**29
"""Room for a vision tower whose sizes are not told: more than those of common models take."""


def vision_bytes(config: Config) -> int:
    """Return about how much a vision tower takes beside the language model; 0 without one.

    Not among the parameters, but on every first GPU: attention and feed-forward of a plain transformer.
    """
    vision = config.get("vision_config")
    if not vision:
        return 0
    if not isinstance(vision, dict):
        return UNKNOWN_VISION_BYTES
    hidden = number(vision, "hidden_size") or number(vision, "embed_dim")
    layers = number(vision, "num_hidden_layers") or number(vision, "depth")
    inner = number(vision, "intermediate_size") or 4 * hidden
    return 2 * layers * (4 * hidden * hidden + 3 * hidden * inner) or UNKNOWN_VISION_BYTES
