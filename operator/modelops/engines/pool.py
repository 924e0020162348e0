"""How many bytes of key-value cache a request needs, as vLLM and llama.cpp cut theirs.

Source of the rules: research/engines.md 4.5; its goldens were reported by the engines themselves.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from modelops.engines.geometry import Geometry, Kind, Layer, State

STATES = 2
"""Blocks per request of a linear layer with prefix caching: its state, and one more; 1 without."""
CELLS = 256
"""llama.cpp rounds its cells up to this."""


@dataclass(frozen=True, slots=True)
class Paging:
    """How vLLM cuts one model's cache on each GPU."""

    block_bytes: int
    request_blocks: int
    """Blocks of one request at the full context."""
    block_tokens: int
    """Tokens in a block of a full-attention layer."""

    def required_bytes(self) -> int:
        """Return the smallest pool that starts: one request, and the null block that holds nothing."""
        return (self.request_blocks + 1) * self.block_bytes


@dataclass(frozen=True, slots=True)
class Pool:
    """What vLLM makes of the bytes it has for its cache."""

    blocks: int
    concurrency: float
    """Requests of the full context that fit at once."""
    tokens: int
    """What vLLM reports as its cache size: concurrency times context, not a capacity."""
    starts: bool


def paging(
    geometry: Geometry,
    *,
    context_tokens: int,
    batched_tokens: int,
    tp: int = 1,
    element_bytes: float | None = None,
    block_tokens: int = 16,
    in_flight: int = 2,
    states: int = STATES,
) -> Paging:
    """Return the blocks of one request.

    ``in_flight`` is batches at a time: 2 with asynchronous scheduling (on GPUs), 1 on CPUs.
    ``states`` is blocks per request of a linear layer.  Layers that keep nothing take no part.
    Layers of one kind, size and window form a group; several groups share pages of one size.
    """
    size = element_bytes or geometry.element_bytes
    block_tokens = _grown(geometry, tp, size, block_tokens)
    groups = _groups(geometry, tp, size)
    if not groups:
        return Paging(0, 0, block_tokens)
    page = max(_page(layer, tp, size, block_tokens) for layer, _ in groups)
    width = _width(tuple(count for _, count in groups))
    reach = batched_tokens * in_flight
    blocks = 0
    for layer, count in groups:
        token_bytes = layer.token_bytes(tp, size)
        tokens = page // token_bytes if token_bytes else block_tokens
        per_layer = states if layer.state else _request_blocks(layer, context_tokens, reach, tokens)
        blocks += math.ceil(count / width) * per_layer
    return Paging(width * page, blocks, block_tokens)


def _groups(geometry: Geometry, tp: int, element_bytes: float) -> list[tuple[Layer, int]]:
    """Return one layer of each group and how many layers it has."""
    found: dict[object, tuple[Layer, int]] = {}
    for layer, count in geometry.runs:
        if layer.kind is not Kind.NONE:
            key = _cache_key(layer, tp, element_bytes)
            found[key] = (layer, count + (found[key][1] if key in found else 0))
    return list(found.values())


def _cache_key(layer: Layer, tp: int, element_bytes: float) -> tuple[Kind, int, int | None, State | None]:
    return layer.kind, layer.token_bytes(tp, element_bytes), layer.window_tokens, layer.state


def fill(paged: Paging, *, kv_bytes: int, context_tokens: int) -> Pool:
    """Return the pool that *kv_bytes* on each GPU give."""
    if not paged.request_blocks:
        return Pool(0, 0.0, 0, starts=kv_bytes >= 0)
    blocks = max(0, kv_bytes) // paged.block_bytes
    concurrency = blocks / paged.request_blocks
    return Pool(
        blocks=blocks,
        concurrency=concurrency,
        tokens=int(concurrency * context_tokens),
        starts=blocks - 1 >= paged.request_blocks,
    )


def largest_context(
    geometry: Geometry,
    *,
    kv_bytes: int,
    limit_tokens: int,
    batched_tokens: int,
    tp: int = 1,
    element_bytes: float | None = None,
    block_tokens: int = 16,
    in_flight: int = 2,
    states: int = STATES,
) -> int:
    """Return the longest context, at most *limit_tokens*, with which *kv_bytes* start; 0 for none."""

    def starts(context_tokens: int) -> bool:
        paged = paging(
            geometry,
            context_tokens=context_tokens,
            batched_tokens=batched_tokens,
            tp=tp,
            element_bytes=element_bytes,
            block_tokens=block_tokens,
            in_flight=in_flight,
            states=states,
        )
        return paged.required_bytes() <= kv_bytes

    return longest(starts, limit_tokens)


def longest(holds: Callable[[int], bool], limit_tokens: int) -> int:
    """Return the most tokens up to *limit_tokens* that *holds* is true for; 0 for none.

    *holds* stays false once it is.
    """
    low, high = 0, limit_tokens
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _grown(geometry: Geometry, tp: int, element_bytes: float, block_tokens: int) -> int:
    """With linear layers, grow the block of attention until its page holds a state."""
    states = [layer.state.bytes(tp) for layer, _ in geometry.runs if layer.state]
    token_bytes = [size for layer, _ in geometry.runs if (size := layer.token_bytes(tp, element_bytes))]
    if not states or not token_bytes:
        return block_tokens
    return max(block_tokens, 16 * math.ceil(max(states) / (16 * min(token_bytes))))


def _page(layer: Layer, tp: int, element_bytes: float, block_tokens: int) -> int:
    return layer.state.bytes(tp) if layer.state else block_tokens * layer.token_bytes(tp, element_bytes)


def _width(counts: tuple[int, ...]) -> int:
    """Return how many layers share a block: of the smallest group, unless the largest is near it."""
    return max(counts) if max(counts) < 1.5 * min(counts) else min(counts)


def _request_blocks(layer: Layer, context_tokens: int, reach_tokens: int, block_tokens: int) -> int:
    window = layer.window_tokens or context_tokens
    match layer.kind:
        case Kind.SLIDING:
            return math.ceil(min(window - 1 + reach_tokens, context_tokens) / block_tokens) + 1
        case Kind.CHUNKED:
            return math.ceil(min(window + reach_tokens, context_tokens) / block_tokens)
        case _:
            return math.ceil(context_tokens / block_tokens)


def cells_bytes(
    layers: tuple[Layer, ...],
    *,
    context_tokens: int,
    slots: int,
    batch_tokens: int = 512,
    key_element_bytes: float = 2,
    value_element_bytes: float = 2,
) -> int:
    """Return the bytes llama.cpp takes at start for *layers*: *slots* separate caches.

    ``context_tokens`` is of one slot; ``batch_tokens`` is ``-ub``.
    """
    total = 0
    for layer in layers:
        if layer.state:
            total += slots * layer.state.bytes(conv_element_bytes=4)
            continue
        cells = _rounded(context_tokens)
        if layer.window_tokens:
            cells = min(cells, _rounded(layer.window_tokens + batch_tokens))
        total += slots * cells * layer.token_bytes(1, key_element_bytes, value_element_bytes)
    return total


def _rounded(cells: int) -> int:
    return math.ceil(cells / CELLS) * CELLS
