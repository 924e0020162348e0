"""What a model takes of GPUs that are in no cluster: the arithmetic of a placement by itself.

The engines' own formulas, research/engines.md 4.2 to 4.6: the same ones that place pods.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from modelops.api.quantities import readable_bytes
from modelops.engines import llamacpp, pool, sglang_pool, vllm
from modelops.engines.geometry import Config, Geometry, read, refuse_split, text_part
from modelops.engines.parameters import knows, parameters, tensor_bytes, vision_bytes
from modelops.engines.weights import loaded_bytes, overhead_bytes
from modelops.placement.demand import LEAST_CONTEXT_TOKENS
from modelops.placement.memory import Verdict, usable_bytes
from modelops.plan import Reason

VLLM, SGLANG, LLAMACPP = "vLLM", "SGLang", "LlamaCpp"
ENGINES = (VLLM, SGLANG, LLAMACPP)
UTILIZATION = Fraction(92, 100)
BLOCK_TOKENS = 16
BATCHED_TOKENS = 2048
IN_FLIGHT = 2
SEQUENCES = 256
KV_BYTES: Mapping[str, Mapping[str, float | None]] = {
    VLLM: {"auto": None, "bf16": 2.0, "fp8": 1.0},
    SGLANG: {"auto": None, "bf16": 2.0, "fp8": 1.0},
    LLAMACPP: {"auto": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32},
}
"""Bytes of one cache element by engine and type; None: those of the model's own type."""
KV_TYPES = ("auto", "bf16", "fp8", "q8_0", "q4_0")


@dataclass(frozen=True, slots=True)
class Question:
    """Does this model run on some GPUs of one kind, and how?  None: chosen, or the engine's default."""

    config: Config
    gpus: int
    """How many there are on one node."""
    memory_bytes: int
    """Of one GPU, with the driver's reserve."""
    capability: tuple[int, int] | None = None
    engine: str = VLLM
    tensor_bytes: int | None = None
    """Sum over the tensors in the files.  None: reckoned from the configuration."""
    tensor_parallel: int | None = None
    context_tokens: int | None = None
    utilization: Fraction | None = None
    kv_type: str = "auto"
    kv_bytes: int | None = None
    """For the cache on each GPU: takes the place of the overhead's estimate."""
    block_tokens: int | None = None
    batched_tokens: int | None = None
    in_flight: int | None = None
    prefix_caching: bool = False


@dataclass(frozen=True, slots=True)
class Cache:
    """What one number of tokens takes on each GPU."""

    request_bytes: int
    """One request of the whole context."""
    required_bytes: int
    """The smallest pool that starts with it."""
    block_bytes: int | None = None
    """None: the engine knows no blocks."""
    request_blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What is fixed before the context is chosen, on each of *gpus*; None: not known, or not asked."""

    gpus: int
    geometry: Geometry
    weights_bytes: int | None
    overhead_low_bytes: int | None
    overhead_high_bytes: int | None
    kv_low_bytes: int
    """Left for the cache with the most overhead."""
    kv_high_bytes: int
    spare_bytes: int
    """Taken by a vision tower, which is not among the weights: a fit without room for it is a risk."""
    kv_token_bytes: int
    cache: Callable[[int], Cache]
    """By context, which a longer one never lowers."""
    fault: str = ""
    """Why it can never start, as the end of a sentence."""
    doubt: str = ""
    """Why it is a risk at best, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict and its numbers; bytes are per GPU."""

    verdict: Verdict
    reason: str
    context_tokens: int
    parameters: int | None
    load: Load
    cache: Cache
    blocks: int | None
    kv_tokens: int
    concurrency: float
    max_context_tokens: int

    def to_wire(self) -> dict[str, Any]:
        """Return the answer for programs."""
        load, cache = self.load, self.cache
        return {
            "verdict": str(self.verdict),
            "reason": self.reason,
            "tensorParallel": load.gpus,
            "parameters": self.parameters,
            "weightsBytesPerGPU": load.weights_bytes,
            "overheadBytesPerGPU": {"low": load.overhead_low_bytes, "high": load.overhead_high_bytes},
            "kvBytesPerGPU": {"low": load.kv_low_bytes, "high": load.kv_high_bytes},
            "kvBytesPerToken": load.kv_token_bytes,
            "bytesPerBlock": cache.block_bytes,
            "blocks": self.blocks,
            "blocksPerRequest": cache.request_blocks,
            "kvCacheTokens": self.kv_tokens,
            "concurrency": self.concurrency,
            "maxContextTokens": self.max_context_tokens,
        }


def answer(asked: Question) -> Answer | Reason:
    """Return the verdict, or in one sentence why the question makes no sense.

    Without a tensor parallel size the fewest GPUs that fit are taken, else the fewest at a risk, else the
    most.  Without a context it is the longest that fits, all of the model's if possible.
    """
    geometry = read(asked.config)
    if isinstance(geometry, Reason):
        return _offline(geometry)
    refused = _refuse_numbers(asked, geometry) or _refuse_family(asked)
    if refused:
        return refused
    counts = _counts(asked, geometry)
    if isinstance(counts, Reason):
        return counts
    least = asked.context_tokens or min(geometry.context_tokens, LEAST_CONTEXT_TOKENS)
    tried = [(load := _load(asked, geometry, gpus), _verdict(load, least)) for gpus in counts]
    for wanted in (Verdict.FITS, Verdict.RISKY):
        found = next((load for load, verdict in tried if verdict is wanted), None)
        if found:
            return _answer(asked, geometry, found, wanted, least)
    return _answer(asked, geometry, tried[-1][0], Verdict.NO, least)


# --- what cannot be asked ----------------------------------------------------------------------------


def _offline(reason: Reason) -> Reason:
    """Return what a configuration lacks, with what to do where there is no service."""
    start, _, _ = reason.message.rpartition("; ")
    return Reason(reason.code, f"{start}; give the config.json of a language model that decodes")


def _refuse_numbers(asked: Question, geometry: Geometry) -> Reason | None:
    limit, context = geometry.context_tokens, asked.context_tokens
    if context is None and not limit:
        return Reason(
            "ContextNeeded",
            "config.json: needs max_position_embeddings to choose a context, found none; give --context",
        )
    if context is not None and limit and context > limit:
        return Reason(
            "ContextTooLong",
            f"--context: may be at most the model's {limit} tokens, found {context}; lower it",
        )
    if asked.tensor_parallel is not None and asked.tensor_parallel > asked.gpus:
        return Reason(
            "TooFewGpus",
            f"--tensor-parallel: needs at most the {asked.gpus} of --gpus, found {asked.tensor_parallel}; "
            "lower it or raise --gpus",
        )
    return None


def _refuse_family(asked: Question) -> Reason | None:
    """Refuse weights that can be told neither from the configuration nor by the user."""
    if asked.tensor_bytes is not None or asked.kv_bytes is not None or _tensors(asked) is not None:
        return None
    text = text_part(asked.config)
    family = text.get("model_type") or "no model_type"
    if not knows(asked.config):
        return Reason(
            "ArchitectureUnknown",
            f"config.json: needs an architecture whose parameters can be counted, found {family}; "
            "give --weights-bytes with the sum of its tensors",
        )
    return Reason(
        "WeightsUnknown",
        f"config.json: needs dense or expert layers in a known quantisation to count weights, found others "
        f"in {family}; give --weights-bytes with the sum of its tensors",
    )


def _counts(asked: Question, geometry: Geometry) -> list[int] | Reason:
    """Return the GPU counts to try, fewest first."""
    if asked.tensor_parallel is not None:
        refused = _refuse_split(asked, geometry, asked.tensor_parallel)
        return refused or [asked.tensor_parallel]
    most = min(asked.gpus, len(geometry.layers) if asked.engine == LLAMACPP else geometry.attention_heads)
    return [gpus for gpus in range(1, most + 1) if _refuse_split(asked, geometry, gpus) is None]


def _refuse_split(asked: Question, geometry: Geometry, gpus: int) -> Reason | None:
    if asked.engine == LLAMACPP:
        if gpus <= len(geometry.layers):
            return None
        return Reason(
            "LayersNotEnough",
            f"--tensor-parallel: needs at most one GPU per layer, found {gpus} for {len(geometry.layers)} "
            "layers; lower it",
        )
    refused = refuse_split("--tensor-parallel", geometry, gpus)
    if refused is None:
        return None
    start, _, _ = refused.message.rpartition("; ")
    works = [str(n) for n in range(1, geometry.attention_heads + 1) if refuse_split("", geometry, n) is None]
    return Reason(refused.code, f"{start}; use one of {', '.join(works)}")


# --- what is fixed -----------------------------------------------------------------------------------


def _tensors(asked: Question) -> int | None:
    if asked.tensor_bytes is not None:
        return asked.tensor_bytes
    if asked.engine != LLAMACPP or _quantization(asked) == "mxfp4":
        return tensor_bytes(asked.config)
    count = parameters(asked.config)
    return None if count is None else 2 * count  # a GGUF of type F16


def _quantization(asked: Question) -> str:
    found = text_part(asked.config).get("quantization_config")
    return str(found.get("quant_method") or "").lower() if isinstance(found, dict) else ""


def _load(asked: Question, geometry: Geometry, gpus: int) -> Load:
    tensors = _tensors(asked)
    size = KV_BYTES[asked.engine][asked.kv_type]
    part = geometry
    if asked.engine == LLAMACPP:
        size = size or 2.0
        part = replace(geometry, layers=max(llamacpp.parts(geometry.layers, gpus), key=_kept_bytes))
    weights = None if tensors is None else _weights(asked, geometry, tensors, gpus)
    low, high = _overhead(asked, geometry, weights or 0, gpus)
    kv_low, kv_high = _left(asked, geometry, weights or 0, (low, high), gpus)
    usable = usable_bytes(asked.memory_bytes)
    is_given = asked.kv_bytes is not None
    return Load(
        gpus=gpus,
        geometry=part,
        weights_bytes=weights,
        overhead_low_bytes=None if is_given else low,
        overhead_high_bytes=None if is_given else high,
        kv_low_bytes=kv_low,
        kv_high_bytes=kv_high,
        spare_bytes=vision_bytes(asked.config) if asked.tensor_bytes is None and not is_given else 0,
        kv_token_bytes=part.token_bytes(1 if asked.engine == LLAMACPP else gpus, size),
        cache=_cache(asked, part, size, gpus),
        fault=_fault(asked, (weights or 0) + low, usable),
        doubt=_doubt(asked, geometry),
    )


def _fault(asked: Question, taken_bytes: int, usable: int) -> str:
    """Return what no cache can mend: an old GPU, or a cache that was asked for beside too large weights."""
    quantization = _quantization(asked)
    least: tuple[int, int] = (0, 0)
    if asked.engine != LLAMACPP:
        least = vllm.LEAST_CAPABILITY.get(quantization, least)
    if asked.capability is not None and asked.capability < least:
        found = ".".join(map(str, asked.capability))
        return (
            f"{quantization} needs compute capability {least[0]}.{least[1]}, found {found}; use a newer GPU"
        )
    if asked.kv_bytes is not None and taken_bytes + asked.kv_bytes > usable:
        return (
            f"weights and the least overhead take {readable_bytes(taken_bytes)}, which with "
            f"{readable_bytes(asked.kv_bytes)} for the cache is more than the "
            f"{readable_bytes(usable)} usable; lower --kv-cache-memory-bytes or use more GPUs"
        )
    return ""


def _doubt(asked: Question, geometry: Geometry) -> str:
    if asked.engine == SGLANG and any(layer.state for layer in geometry.layers):
        return "how many states of linear layers SGLang keeps is not known"
    return ""


def _weights(asked: Question, geometry: Geometry, tensors: int, gpus: int) -> int:
    if asked.engine == LLAMACPP:
        share = llamacpp.weights_share(tensors, geometry, gpus)
        return loaded_bytes(share, geometry=geometry, quantization=None)
    return loaded_bytes(tensors, geometry=geometry, quantization=_quantization(asked), gpus=gpus)


def _kept_bytes(layers: tuple[Any, ...]) -> int:
    return sum(layer.token_bytes() for layer in layers)


def _overhead(asked: Question, geometry: Geometry, weights_bytes: int, gpus: int) -> tuple[int, int]:
    if asked.engine == LLAMACPP:
        return llamacpp.overhead(geometry, asked.batched_tokens or llamacpp.BATCH_TOKENS)
    return overhead_bytes(weights_bytes, geometry=geometry, gpus=gpus, sequences=SEQUENCES)


def _left(
    asked: Question, geometry: Geometry, weights_bytes: int, overhead: tuple[int, int], gpus: int
) -> tuple[int, int]:
    """Return what is left for the cache with the most and with the least overhead."""
    if asked.kv_bytes is not None:
        return asked.kv_bytes, asked.kv_bytes
    low, high = overhead
    usable = usable_bytes(asked.memory_bytes)
    if asked.engine == SGLANG:
        fraction = asked.utilization or sglang_pool.static_fraction(
            geometry, memory_bytes=asked.memory_bytes, tp=gpus, chunk_tokens=asked.batched_tokens
        )
        most = math.floor(usable * fraction) - weights_bytes
        return min(most, usable - weights_bytes - high), min(most, usable - weights_bytes - low)
    share = asked.utilization or (Fraction(1) if asked.engine == LLAMACPP else UTILIZATION)
    budget = math.floor(usable * share) - weights_bytes
    return budget - high, budget - low


def _cache(asked: Question, part: Geometry, size: float | None, gpus: int) -> Callable[[int], Cache]:
    match asked.engine:
        case "LlamaCpp":
            return lambda context: _slot(asked, part, size or 2.0, context)
        case "SGLang":
            return lambda context: _cells(asked, part, size, gpus, context)
        case _:
            return lambda context: _paged(asked, part, size, gpus, context)


def _paged(asked: Question, part: Geometry, size: float | None, gpus: int, context: int) -> Cache:
    paged = pool.paging(
        part,
        context_tokens=context,
        batched_tokens=asked.batched_tokens or BATCHED_TOKENS,
        tp=gpus,
        element_bytes=size,
        block_tokens=asked.block_tokens or BLOCK_TOKENS,
        in_flight=asked.in_flight or IN_FLIGHT,
        states=pool.STATES if asked.prefix_caching else 1,
    )
    return Cache(
        paged.request_blocks * paged.block_bytes,
        paged.required_bytes(),
        paged.block_bytes,
        paged.request_blocks,
    )


def _cells(asked: Question, part: Geometry, size: float | None, gpus: int, context: int) -> Cache:
    page = asked.block_tokens or 1
    page_bytes = page * sglang_pool.cell_bytes(part, tp=gpus, element_bytes=size)
    pages = -(-context // page)
    states = sglang_pool.state_bytes(part, tp=gpus)
    return Cache(pages * page_bytes + states, (pages + 1) * page_bytes + states, page_bytes, pages)


def _slot(asked: Question, part: Geometry, size: float, context: int) -> Cache:
    needed = pool.cells_bytes(
        part.layers,
        context_tokens=context,
        slots=1,
        batch_tokens=asked.batched_tokens or llamacpp.BATCH_TOKENS,
        key_element_bytes=size,
        value_element_bytes=size,
    )
    return Cache(needed, needed)


# --- the verdict -------------------------------------------------------------------------------------


def _verdict(load: Load, context: int) -> Verdict:
    needed = load.cache(context).required_bytes
    if load.fault or needed > load.kv_high_bytes:
        return Verdict.NO
    if load.doubt or needed > load.kv_low_bytes - load.spare_bytes:
        return Verdict.RISKY
    return Verdict.FITS


def _answer(asked: Question, geometry: Geometry, load: Load, verdict: Verdict, least: int) -> Answer:
    longest = _longest(load, geometry.context_tokens or least)
    context = least
    if asked.context_tokens is None and verdict is Verdict.FITS:
        context = _longest(load, geometry.context_tokens, spare_bytes=load.spare_bytes)
    cache = load.cache(context)
    blocks, concurrency = _filled(load, cache)
    tokens = int(concurrency * context)
    if asked.engine == SGLANG and blocks is not None:
        tokens = blocks * (asked.block_tokens or 1)  # a capacity, where vLLM reports a share of contexts
    return Answer(
        verdict=verdict,
        reason=_reason(asked, load, cache, verdict, context, concurrency, longest),
        context_tokens=context,
        parameters=parameters(asked.config),
        load=load,
        cache=cache,
        blocks=blocks,
        kv_tokens=tokens,
        concurrency=concurrency,
        max_context_tokens=longest,
    )


def _longest(load: Load, limit_tokens: int, *, spare_bytes: int = 0) -> int:
    """Return the longest context that starts with the most overhead; 0 for none."""
    room = load.kv_low_bytes - spare_bytes
    return pool.longest(lambda context: load.cache(context).required_bytes <= room, limit_tokens)


def _filled(load: Load, cache: Cache) -> tuple[int | None, float]:
    """Return the blocks, and how many whole requests they hold, with the most overhead."""
    room = max(0, load.kv_low_bytes)
    if cache.block_bytes is None or cache.request_blocks is None:
        return None, room / cache.request_bytes if cache.request_bytes else 0.0
    blocks = room // cache.block_bytes if cache.block_bytes else 0
    return blocks, blocks / cache.request_blocks if cache.request_blocks else 0.0


# --- the sentence ------------------------------------------------------------------------------------


def _reason(
    asked: Question,
    load: Load,
    cache: Cache,
    verdict: Verdict,
    context: int,
    concurrency: float,
    longest: int,
) -> str:
    """Return the arithmetic in one sentence, and for a no what would help."""
    where = (
        f"{asked.engine} on {load.gpus} x GPU with {readable_bytes(usable_bytes(asked.memory_bytes))} usable"
    )
    if load.fault:
        return f"{where}: {load.fault}"
    needs = f"one request of {context} tokens needs {_size(cache.required_bytes)}{_in_blocks(cache)}"
    start = f"{where}: {needs}, {_leaves(asked, load)}"
    match verdict:
        case Verdict.FITS:
            return f"{start}: {concurrency:.2f} such requests at a time, the longest context is {longest}"
        case Verdict.RISKY:
            why = load.doubt or "it starts only with less than the most overhead"
            helps = (
                f"lower --context to {longest}" if longest and not load.doubt else "use more or larger GPUs"
            )
            return f"{start}: {why}; {helps} to be certain"
        case _:
            helps = f"at most {longest} tokens of context" if longest else "more or larger GPUs"
            return f"{start}: not enough; use {helps}"


def _leaves(asked: Question, load: Load) -> str:
    if asked.kv_bytes is not None:
        weights = (
            "weights are not known" if load.weights_bytes is None else f"weights {_size(load.weights_bytes)}"
        )
        return f"{_size(asked.kv_bytes)} are given to the cache, {weights} and overhead is not reckoned"
    band = f"{_size(load.overhead_low_bytes or 0)} to {_size(load.overhead_high_bytes or 0)}"
    spare = f", {_size(load.spare_bytes)} for the vision tower" if load.spare_bytes else ""
    return (
        f"weights {_size(load.weights_bytes or 0)} and overhead {band} leave {_size(load.kv_low_bytes)} to "
        f"{_size(load.kv_high_bytes)} for the cache{spare}"
    )


def _in_blocks(cache: Cache) -> str:
    if cache.block_bytes is None or cache.request_blocks is None:
        return ""
    return f" ({cache.request_blocks} blocks of {_size(cache.block_bytes)} and one that holds nothing)"


def _size(count: int) -> str:
    return readable_bytes(count) if count >= 0 else f"-{readable_bytes(-count)}"
