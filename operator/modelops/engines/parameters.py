"""How many parameters a configuration has, for when no file header says how many bytes they take.

Source of every term: research/engines.md 4.2; published counts are the test.
"""

from modelops.engines.geometry import Config, Kind, experts, head_dim, kinds, kv_heads, text_part

TIED_BY_CLASS = ("gemma",)
"""Families whose embeddings are tied when config.json does not say."""


def parameters(config: Config) -> int | None:
    """Return the number of parameters of the language model; None where the formula does not hold.

    It holds for dense, mixture-of-experts and MLA models, not for linear attention.
    """
    text = text_part(config)
    if Kind.LINEAR in kinds(text):
        return None
    layers = range(int(text["num_hidden_layers"]))
    hidden = int(text["hidden_size"])
    body = sum(_attention(text) + _feed_forward(text, layer) + _norms(text) for layer in layers)
    return _embeddings(text) + body + hidden


def _embeddings(text: Config) -> int:
    tied = text.get("tie_word_embeddings", _family(text).startswith(TIED_BY_CLASS))
    return int(text["vocab_size"]) * int(text["hidden_size"]) * (1 if tied else 2)


def _attention(text: Config) -> int:
    if text.get("kv_lora_rank"):
        return _latent_attention(text)
    hidden, dim = int(text["hidden_size"]), head_dim(text)
    query, key_value = int(text["num_attention_heads"]) * dim, kv_heads(text) * dim
    total = hidden * query + 2 * hidden * key_value + query * hidden
    family = _family(text)
    if family.startswith("qwen2"):
        total += query + 2 * key_value
    elif text.get("attention_bias"):
        total += query + 2 * key_value + hidden
    if family.startswith(("qwen3", "gemma3")):
        total += 2 * dim
    if family.startswith("gpt_oss"):
        total += int(text["num_attention_heads"])  # sinks
    return total


def _latent_attention(text: Config) -> int:
    hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
    latent, rope = int(text["kv_lora_rank"]), int(text["qk_rope_head_dim"])
    nope, value = int(text["qk_nope_head_dim"]), int(text["v_head_dim"])
    rank = int(text.get("q_lora_rank") or 0)
    query = hidden * rank + rank + rank * heads * (nope + rope) if rank else hidden * heads * (nope + rope)
    key_value = hidden * (latent + rope) + latent + latent * heads * (nope + value)
    return query + key_value + heads * value * hidden


def _feed_forward(text: Config, layer: int) -> int:
    hidden, inner = int(text["hidden_size"]), int(text["intermediate_size"])
    count = experts(text)
    if not count or _is_dense(text, layer):
        return 3 * hidden * inner + (2 * inner + hidden if text.get("mlp_bias") else 0)
    inner = int(text.get("moe_intermediate_size") or inner)
    total = count * 3 * hidden * inner + hidden * count
    total += int(text.get("n_shared_experts") or 0) * 3 * hidden * inner
    shared = int(text.get("shared_expert_intermediate_size") or 0)
    total += 3 * hidden * shared + hidden if shared else 0
    if text.get("topk_method") == "noaux_tc":
        total += count
    if _family(text).startswith("gpt_oss"):
        total += count * (2 * inner + hidden) + count
    return total


def _is_dense(text: Config, layer: int) -> bool:
    step = int(text.get("decoder_sparse_step") or 1)
    return (
        layer < int(text.get("first_k_dense_replace") or 0)
        or layer in (text.get("mlp_only_layers") or ())
        or (layer + 1) % step != 0
    )


def _norms(text: Config) -> int:
    return (4 if _family(text).startswith("gemma3") else 2) * int(text["hidden_size"])


def _family(text: Config) -> str:
    return str(text.get("model_type", ""))
