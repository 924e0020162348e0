"""How many bytes of cache SGLang takes, and what it leaves for everything else.

Source: SGLang 0.5.23; research/engines.md 4.5.
"""

from fractions import Fraction

from modelops.engines.geometry import Geometry, Kind

MIB = 2**20
PREFILL_GRAPHS = 64
"""Sizes that prefill graphs are captured for: not told anywhere, so more than are usual."""
LARGE_MIB, LARGE_RESERVE_MIB = 60 * 1024, 10240

BY_MEMORY = (
    (20 * 1024, 2048, 8, 8),
    (35 * 1024, 4096, 48, 160),
    (60 * 1024, 4096, 32, 160),
    (160 * 1024, 8192, 256, 512),
)
"""Below so many MiB: tokens of a prefill chunk, largest decode batch with less than 4 GPUs and with more."""
LARGEST = (16384, 512, 512)


def cell_bytes(geometry: Geometry, *, tp: int = 1, element_bytes: float | None = None) -> int:
    """Return the bytes of one token on each GPU: every layer counts whole, also one that slides."""
    return geometry.token_bytes(tp, element_bytes)


def state_bytes(geometry: Geometry, *, tp: int = 1) -> int:
    """Return the bytes that one request takes in linear layers, whatever its length."""
    return sum(layer.state.bytes(tp) for layer in geometry.layers if layer.state)


def static_fraction(
    geometry: Geometry, *, memory_bytes: int, tp: int = 1, pp: int = 1, chunk_tokens: int | None = None
) -> Fraction:
    """Return the share of a GPU that SGLang gives to weights and cache where nobody says.

    ``chunk_tokens`` is ``--chunked-prefill-size``.
    """
    memory_mib = memory_bytes // MIB
    chunk, few, many = next((row[1:] for row in BY_MEMORY if memory_mib < row[0]), LARGEST)
    batch = many if tp >= 4 else few
    is_latent = any(layer.kind is Kind.MLA for layer in geometry.layers)
    graphs = 1536 if is_latent else 8 * PREFILL_GRAPHS
    reserve = 512 + Fraction(3, 2) * max(chunk_tokens or chunk, 2048) + Fraction(tp * pp * 1024, 8)
    reserve += 2 * batch + graphs
    if memory_mib > LARGE_MIB:
        reserve = max(reserve, Fraction(LARGE_RESERVE_MIB))
    return max(Fraction(0), Fraction(round((memory_mib - reserve) / memory_mib, 3)))
