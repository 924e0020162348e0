"""What one pod of a service needs of a node, in the user's words."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from modelops.engines.base import Ask, Engine, Facts, Footprint, Gpu
from modelops.placement.devices import GPU_RESOURCE
from modelops.placement.learned import Learned, basis, corrected

LEAST_CONTEXT_TOKENS = 8192
"""Where the user names no context, a place must hold this many tokens, or all that the model knows."""


class Sharing(StrEnum):
    """How a GPU or a slice may be shared with pods of others."""

    EXCLUSIVE = "Exclusive"
    TIME_SLICING = "TimeSlicing"
    MPS = "MPS"


@dataclass(frozen=True, slots=True)
class Demand:
    """What one pod of a service needs, in the user's words."""

    service: str
    """For sentences."""
    facts: Facts
    engine: Engine
    ask: Ask
    """Its context and concurrency may be open; its GPUs are not looked at."""
    count: int | None = None
    """GPUs of one pod.  None: Auto, the fewest that fit; 0: none."""
    products: tuple[str, ...] = ()
    """Empty: any."""
    min_memory_bytes: int | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """As a pod writes them."""
    zones: tuple[str, ...] = ()
    """Empty: any."""
    resource_name: str = ""
    """Empty: whatever NVIDIA's device plugin offers, the tightest first."""
    partition: str = ""
    """MIG profile.  Empty: whole GPUs, shares and slices of any profile."""
    sharing: Sharing | None = None
    """None: any way, and not at all."""
    replicas: int = 1
    nodes: int = 1
    """Pods of one replica, each with GPUs of its own and a part of the layers."""
    cpu_fallback: bool = False
    corrections: tuple[Learned, ...] = ()
    """What engines measured before, of this model and others."""
    on_cpus: bool = False
    """No GPU is looked for: the engine computes on CPUs."""

    @property
    def resource(self) -> str:
        """The resource that is wanted, for sentences."""
        return self.resource_name or GPU_RESOURCE

    def asked(self, gpus: int, gpu: Gpu | None, context_tokens: int | None = None) -> Ask:
        """Return what the engine is asked about *gpus* of this kind, with a context if one is given."""
        context_tokens = context_tokens or self.ask.context_tokens
        return replace(self.ask, gpus=gpus, gpu=gpu, stages=self.nodes, context_tokens=context_tokens)

    def footprint(self, ask: Ask) -> Footprint | None:
        """Return what the engine needs on each GPU, with what was measured in place of what is estimated."""
        found = self.engine.footprint(self.facts, ask)
        if found is None or not self.corrections or ask.gpu is None:
            return found
        return corrected(found, basis(self.engine, self.facts, ask), self.corrections)

    def least_context(self) -> int:
        """Return the tokens that a place must hold at least."""
        return self.ask.context_tokens or min(self.facts.longest_context(), LEAST_CONTEXT_TOKENS)
