"""What an engine reported of its cache once it was ready, and what the next plan learns from it.

The plan's overhead is a band of published figures; the engine's own number replaces it wherever all that the
overhead depends on is the same.  Source: research/engines.md 4.6, 4.10.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from modelops.api.quantities import readable_bytes
from modelops.engines.base import Ask, Engine, Facts, Footprint
from modelops.placement import memory
from modelops.placement.placed import Placement
from modelops.plan import Manifest

MARGIN_PERCENT, MOST_MARGIN_BYTES = 5, 256 * 2**20
"""How much more of its overhead one start may take than another."""
MOST = 10
"""Measurements that are kept, the last ones."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the pods of one revision say of their cache, the least of them; None: that is not told."""

    revision: str
    tokens: int | None = None
    blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    """The cache that one revision really had, and the overhead that follows.

    Law: ``from_status(measured.to_status())`` is the same measurement.
    """

    basis: str
    """Digest of all that the overhead depends on."""
    version: str
    engine: str
    product: str
    gpus: int
    kv_tokens: int
    planned_low_tokens: int
    """With the most overhead that was planned with."""
    planned_high_tokens: int
    overhead_bytes: int
    """Neither weights nor cache, on each GPU, in the plan's own terms."""

    @property
    def error_percent(self) -> int:
        """How far the plan's band is from what was reported, in percent of it; 0: inside."""
        near = min(max(self.kv_tokens, self.planned_low_tokens), self.planned_high_tokens)
        return round(100 * abs(near - self.kv_tokens) / max(1, self.kv_tokens))

    def to_status(self) -> Manifest:
        """Return the entry of ``measured`` in a status."""
        return {
            "basis": self.basis,
            "version": self.version,
            "engine": self.engine,
            "product": self.product,
            "gpus": self.gpus,
            "kvCacheTokens": self.kv_tokens,
            "plannedLowTokens": self.planned_low_tokens,
            "plannedHighTokens": self.planned_high_tokens,
            "overheadBytes": self.overhead_bytes,
            "errorPercent": self.error_percent,
        }

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> "Learned":
        """Return the measurement that ``to_status`` wrote."""
        return cls(
            basis=status["basis"],
            version=status["version"],
            engine=status["engine"],
            product=status["product"],
            gpus=status["gpus"],
            kv_tokens=status["kvCacheTokens"],
            planned_low_tokens=status["plannedLowTokens"],
            planned_high_tokens=status["plannedHighTokens"],
            overhead_bytes=status["overheadBytes"],
        )


@lru_cache(maxsize=4096)
def basis(engine: Engine, facts: Facts, ask: Ask) -> str:
    """Return the digest of what the overhead depends on: the model's shape, not its bytes or its context."""
    gpu = ask.gpu
    told: dict[str, Any] = {
        "engine": engine.name,
        "image": engine.launch(facts, ask).image,
        "model": [facts.format, facts.architecture, facts.parameters, facts.quantization, facts.layers],
        "width": [facts.hidden_size, facts.attention_heads, facts.kv_heads, facts.head_dim, facts.vocabulary],
        "gpu": [gpu.product, gpu.memory_bytes, gpu.shares, ask.gpus, ask.stages] if gpu else None,
        "limits": [ask.max_concurrency, list(ask.extra_args), sorted(ask.env.items())],
    }
    if ask.adapters:
        told["adapters"] = [adapter.rank for adapter in ask.adapters]
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def measure(placement: Placement, engine: str, version: str, report: Report) -> Learned | None:
    """Return what *report* says about the plan; None: it cannot be compared.

    Tokens come first: they do not depend on the size of a block, which an engine may choose itself.
    """
    footprint = placement.footprint
    if footprint is None or not placement.basis or not footprint.kv_bytes_one_request:
        return None
    tokens = report.tokens
    if tokens is None and report.blocks is not None:
        block_bytes = footprint.kv_bytes_required - footprint.kv_bytes_one_request
        tokens = _tokens(report.blocks * block_bytes, footprint) if block_bytes > 0 else None
    if not tokens:
        return None
    room = memory.judge(footprint, placement.gpu_memory_bytes)
    kv_bytes = -(-tokens * footprint.kv_bytes_one_request // footprint.context_tokens)
    budget = room.kv_high_bytes + footprint.overhead_low_bytes
    return Learned(
        basis=placement.basis,
        version=version,
        engine=engine,
        product=placement.product,
        gpus=placement.gpus,
        kv_tokens=tokens,
        planned_low_tokens=_tokens(room.kv_low_bytes, footprint),
        planned_high_tokens=_tokens(room.kv_high_bytes, footprint),
        # A cache larger than the plan knows is the plan's mistake about tokens; it stays on the safe side.
        overhead_bytes=max(0, budget - kv_bytes),
    )


def corrected(footprint: Footprint, key: str, known: Iterable[Learned]) -> Footprint:
    """Return *footprint* with the overhead that was measured on the same basis, the largest; else itself."""
    same = [one for one in known if one.basis == key]
    if not same:
        return footprint
    worst = max(same, key=lambda one: (one.overhead_bytes, one.version))
    margin = min(worst.overhead_bytes * MARGIN_PERCENT // 100, MOST_MARGIN_BYTES)
    return replace(
        footprint,
        overhead_low_bytes=worst.overhead_bytes,
        overhead_high_bytes=worst.overhead_bytes + margin,
        correction=(
            f"overhead corrected from {readable_bytes(footprint.overhead_low_bytes)} to "
            f"{readable_bytes(footprint.overhead_high_bytes)} by what {worst.version} measured on "
            f"{worst.gpus} x {worst.product}: {worst.kv_tokens} tokens of cache"
        ),
    )


def kept(stored: Iterable[Learned], new: Iterable[Learned]) -> tuple[Learned, ...]:
    """Return one measurement for each basis, the new in place of the stored; the last few."""
    found = {one.basis: one for one in stored}
    for one in new:
        found[one.basis] = one
    return tuple(found.values())[-MOST:]


def _tokens(kv_bytes: int, footprint: Footprint) -> int:
    return max(0, kv_bytes) * footprint.context_tokens // footprint.kv_bytes_one_request
