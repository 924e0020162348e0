"""How much memory the places for LoRA adapters take, and what cannot carry any.

vLLM and SGLang take one place for each adapter at start, for every linear layer and of the largest rank.
Source: vLLM 0.33, SGLang 0.5.23; the sum is the trainable parameters that peft prints for all linear layers.
"""

from dataclasses import replace

from modelops.engines.base import Ask, Facts
from modelops.engines.geometry import Geometry, Kind
from modelops.plan import Reason

ELEMENT_BYTES = 2
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM lets a rank be limited to; a smaller adapter takes a place of the next size."""
SLACK_BYTES = 64 * 2**20
"""For what is computed between the two matrices."""


def refuse_adapters(engine: str, model: Facts, ask: Ask) -> Reason | None:
    """Refuse adapters that could not be told apart, or whose places cannot be reckoned."""
    if not ask.adapters:
        return None
    names = [ask.served_name, *(adapter.name for adapter in ask.adapters)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return Reason(
            "AdapterNameTaken",
            f"{model.name}: needs a name of its own for each adapter and the model, found {twice[0]} twice; "
            "rename one in engine.adapters",
        )
    largest = max(ask.adapters, key=lambda adapter: adapter.rank)
    if not 1 <= largest.rank <= RANKS[-1]:
        return Reason(
            "AdapterRankUnsupported",
            f"{model.name}: {engine} needs adapters of rank 1 to {RANKS[-1]}, found {largest.rank} in "
            f"{largest.name}; train it with a smaller rank or merge it",
        )
    geometry = model.layout()
    if geometry is None or not _is_plain(geometry) or not inner_size(model, geometry):
        return Reason(
            "AdaptersUnsupported",
            f"{model.name}: adapters need a dense model with plain attention and known parameters, "
            f"found {model.architecture or 'an unknown architecture'}; merge the adapter into its base",
        )
    return None


def places_bytes(model: Facts, ask: Ask) -> int:
    """Return the bytes on each GPU for all adapters of *ask*; 0 without any."""
    geometry = model.layout()
    if not ask.adapters or geometry is None:
        return 0
    known = replace(geometry, inner_size=inner_size(model, geometry))
    return len(ask.adapters) * limit(ask) * _row_bytes(known, max(1, ask.gpus)) + SLACK_BYTES


def inner_size(model: Facts, geometry: Geometry) -> int:
    """Return the inner size: as told, else the most that the number of parameters leaves; 0: not known.

    At most, since of all that is not attention only one matrix of embeddings is taken off.
    """
    if geometry.inner_size or not model.parameters or not geometry.layers:
        return geometry.inner_size
    hidden, heads = geometry.hidden_size, geometry.attention_heads
    attention = sum(
        count * hidden * (heads + layer.kv_heads) * (layer.key_dim + layer.value_dim)
        for layer, count in geometry.runs
    )
    left = model.parameters - geometry.vocabulary * hidden - attention
    return max(0, -(-left // (3 * hidden * len(geometry.layers))))


def limit(ask: Ask) -> int:
    """Return the largest rank that the engine is told to make room for."""
    largest = max(adapter.rank for adapter in ask.adapters)
    return next(rank for rank in RANKS if rank >= largest)


def parameters(geometry: Geometry, rank: int) -> int:
    """Return the parameters of one adapter of all linear layers."""
    return rank * _row_bytes(geometry, 1) // ELEMENT_BYTES


def _row_bytes(geometry: Geometry, tp: int) -> int:
    """Return the bytes of rank 1: the matrix that is not split lies whole on each of *tp* GPUs."""
    hidden, inner, heads = geometry.hidden_size, geometry.inner_size, geometry.attention_heads
    total = 0
    for layer, count in geometry.runs:
        query, key = heads * layer.key_dim, layer.kv_heads * layer.key_dim
        value, out = layer.kv_heads * layer.value_dim, heads * layer.value_dim
        columns = sum(hidden + -(-size // tp) for size in (query, key, value, inner, inner))
        rows = sum(-(-size // tp) + hidden for size in (out, inner))
        total += count * (columns + rows)
    return total * ELEMENT_BYTES


def _is_plain(geometry: Geometry) -> bool:
    kinds = {layer.kind for layer, _ in geometry.runs}
    return not geometry.experts and kinds <= {Kind.FULL, Kind.SLIDING}
