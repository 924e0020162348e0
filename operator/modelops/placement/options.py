"""On how many GPUs of a node a model may run: the engine's footprint against each kind of GPU."""

from dataclasses import dataclass, replace
from functools import lru_cache

from modelops.api.quantities import readable_bytes
from modelops.engines.base import Ask, Engine, Facts, Footprint, Gpu
from modelops.placement import filters, memory
from modelops.placement.demand import Demand
from modelops.placement.devices import GPU_RESOURCE, Device
from modelops.placement.inventory import NodeState
from modelops.placement.memory import Room, Verdict
from modelops.plan import Reason

CONTEXT_STEP_TOKENS = 256
MAX_GPUS = 16


@dataclass(frozen=True, slots=True)
class Sum:
    """What the arithmetic says about some GPUs of one kind, wherever they are."""

    verdict: Verdict
    footprint: Footprint | None = None
    room: Room | None = None


class Books:
    """Reckon each kind and number of GPUs once: many nodes are alike."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._sums: dict[tuple[Gpu | None, int], Sum | Reason] = {}

    def at(self, gpu: Gpu | None, gpus: int) -> Sum | Reason:
        """Return the sum at the least context, or why the engine refuses these GPUs."""
        if (gpu, gpus) not in self._sums:
            demand = self._demand
            found = _reckon(demand.engine, demand.facts, demand.asked(gpus, gpu), demand.least_context())
            if demand.corrections and isinstance(found, Sum):
                found = _sum(demand.footprint(demand.asked(gpus, gpu, demand.least_context())), gpu)
            self._sums[gpu, gpus] = found
        return self._sums[gpu, gpus]


@dataclass(frozen=True, slots=True)
class Option:
    """A number of GPUs on one node that the model may run on, were they free."""

    node: NodeState
    device: Device
    gpus: int
    sum: Sum
    nodes: int = 1
    """Pods of one replica, each on so many GPUs."""

    @property
    def verdict(self) -> Verdict:
        return self.sum.verdict

    @property
    def free(self) -> int:
        """How many of the device a new pod could have."""
        return self.node.free(self.device.resource)

    @property
    def is_split(self) -> bool:
        """Whether the GPUs of a node talk to each other by something slower than NVLink, as the agent saw."""
        islands = self.node.islands
        return self.gpus > 1 and islands is not None and max(islands, default=0) < self.gpus

    @property
    def text(self) -> str:
        """The GPUs, for people: 2 x NVIDIA-H100 with 78.9 GiB usable."""
        group = f"{self.nodes} nodes with " if self.nodes > 1 else ""
        return f"{group}{self.gpus} x {described(self.device)}"


@dataclass(frozen=True, slots=True)
class TooSmall(Reason):
    """Kept apart from other reasons for the sentence about the largest candidate."""

    gpus: int
    footprint: Footprint


def look(node: NodeState, device: Device, demand: Demand, books: Books) -> Option | Reason:
    """Return the fewest of *device* that fit, else the fewest at a risk, were they free."""
    few = filters.less_memory(node, device, demand)
    if few:
        return few
    counts = _counts(node, device, demand)
    if isinstance(counts, Reason):
        return counts
    risky: Option | None = None
    reasons: list[Reason] = []
    for gpus in counts:
        found = _option(node, device, gpus, demand, books)
        if isinstance(found, Reason):
            reasons.append(found)
        elif found.verdict is not Verdict.RISKY:
            return found  # more of them would only be taken from others
        else:
            risky = risky or found
    # What is too small even with the most GPUs tells more than a count that does not divide.
    return risky or max(reasons, key=lambda reason: reason.gpus if isinstance(reason, TooSmall) else 0)


def _counts(node: NodeState, device: Device, demand: Demand) -> list[int] | Reason:
    total = node.total(device.resource)
    shares = device.gpu.shares if device.gpu else 1
    is_alone = shares > 1 or bool(device.profile)
    if demand.nodes > 1 and is_alone:
        found = f"{product(device)} in {shares} shares" if shares > 1 else f"slices {device.profile} of MIG"
        return Reason(
            "GpuSliced" if device.profile else "GpuShared",
            f"{node.name}: needs whole GPUs for a group of {demand.nodes} nodes, found {found}; leave "
            "accelerator.nodes out",
        )
    if demand.count is None:
        return list(range(1, (1 if is_alone else min(total, MAX_GPUS)) + 1))
    if demand.count > 1 and shares > 1:
        return Reason(
            "GpuShared",
            f"{node.name}: needs {demand.count} whole GPUs, found {product(device)} in {shares} shares, of "
            "which a second gives no more memory; set accelerator.count to Auto",
        )
    if demand.count > 1 and device.profile:
        return Reason(
            "GpuSliced",
            f"{node.name}: needs {demand.count} GPUs that work together, found slices {device.profile} of "
            "MIG, each of which works alone; set accelerator.count to Auto",
        )
    if demand.count > total:
        return Reason(
            "TooFewGpus",
            f"{node.name}: needs {demand.count} x GPU on one node, found {total} x {described(device)}; "
            "lower accelerator.count or add a larger node",
        )
    return [demand.count]


def _option(node: NodeState, device: Device, gpus: int, demand: Demand, books: Books) -> Option | Reason:
    found = books.at(device.gpu, gpus)
    if isinstance(found, Reason):
        return found
    if found.footprint is not None and device.gpu is None:
        name = device.resource if device.profile else GPU_RESOURCE
        return Reason(
            "GpuUnknown",
            f"{node.name}: needs the labels {name}.product and {name}.memory to reckon with, "
            "found none; run GPU feature discovery on it",
        )
    if found.footprint is not None and found.verdict is Verdict.NO:
        return _too_small(node, device, gpus, found.footprint)
    return Option(node, device, gpus, found, demand.nodes)


@lru_cache(maxsize=8192)
def _reckon(engine: Engine, facts: Facts, ask: Ask, least_context: int) -> Sum | Reason:
    """Return the sum at the least context; kept, since many services run one version on one kind of GPU."""
    refused = engine.refuses(facts, ask)
    if refused:
        return refused
    return _sum(engine.footprint(facts, replace(ask, context_tokens=least_context)), ask.gpu)


def _sum(footprint: Footprint | None, gpu: Gpu | None) -> Sum:
    if footprint is None or gpu is None:
        return Sum(Verdict.UNKNOWN, footprint)
    room = memory.judge(footprint, gpu.memory_bytes)
    return Sum(room.verdict, footprint, room)


def widened(option: Option, demand: Demand) -> Option:
    """Return *option* with the longest context that still fits, where the user named none.

    All of the model's, or whole steps: llama.cpp rounds its cells up to them anyway.
    """
    gpu, gpus = option.device.gpu, option.gpus
    if demand.ask.context_tokens is not None or option.verdict is not Verdict.FITS:
        return option

    def at(context_tokens: int) -> Sum:
        return _sum(demand.footprint(demand.asked(gpus, gpu, context_tokens)), gpu)

    limit_tokens = demand.facts.longest_context()
    whole = at(limit_tokens)
    if whole.verdict is Verdict.FITS:
        return replace(option, sum=whole)
    best = option.sum
    low, high = demand.least_context() // CONTEXT_STEP_TOKENS, limit_tokens // CONTEXT_STEP_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        longer = at(middle * CONTEXT_STEP_TOKENS)
        if longer.verdict is Verdict.FITS:
            best, low = longer, middle
        else:
            high = middle - 1
    return replace(option, sum=best)


def _too_small(node: NodeState, device: Device, gpus: int, footprint: Footprint) -> TooSmall:
    return TooSmall(
        "GpuTooSmall",
        f"{node.name}: needs {gpus} x GPU with {readable_bytes(memory.needed_bytes(footprint))} usable "
        f"({memory.parts(footprint)}) for {footprint.context_tokens} tokens, found {described(device)}, "
        f"{node.free(device.resource)} of {node.total(device.resource)} free; "
        "use a larger GPU, more of them or a shorter engine.contextTokens",
        gpus,
        footprint,
    )


def product(device: Device) -> str:
    return device.gpu.product if device.gpu else ""


def described(device: Device) -> str:
    """Return what one of *device* is, for people."""
    gpu = device.gpu
    if gpu is None:
        return f"MIG slice {device.profile}" if device.profile else "GPU"
    how = "time-slicing" if gpu.is_time_sliced else "MPS"
    share = f" (of {gpu.shares} shares by {how})" if gpu.shares > 1 else ""
    return f"{gpu.product} with {readable_bytes(memory.usable_bytes(gpu.memory_bytes))} usable{share}"
