"""Choose where a model runs: filter nodes, reckon what fits, take the tightest, say why not the others."""

from modelops.api.quantities import readable_bytes
from modelops.placement import filters, memory
from modelops.placement.demand import Demand
from modelops.placement.inventory import (
    MEMORY_RESOURCE,
    Inventory,
    NodeState,
)
from modelops.placement.memory import Verdict
from modelops.placement.options import Books, Option, TooSmall, described, look, product, widened
from modelops.placement.placed import Placement, Refusal, Rejected
from modelops.plan import Reason

__all__ = ["Demand", "Placement", "Refusal", "Rejected", "choose"]

MAX_REJECTED = 20


def choose(inventory: Inventory, demand: Demand) -> Placement | Refusal:
    """Return the tightest place that is free, or why there is none.

    Where it fits for certain on any node, it waits for such a node and never starts at a risk.  A product
    with room for every replica comes before others, then the least GPU memory, then the node with the
    fewest GPUs left over.
    """
    asked = demand.asked(0 if demand.on_cpus else 1 if demand.count is None else demand.count, None)
    refused = demand.engine.refuses(demand.facts, asked)
    if refused:
        return Refusal(refused)
    if demand.on_cpus:
        return _on_cpus_alone(inventory, demand)
    if demand.count == 0:
        return _on_cpus(inventory, demand, _cpu_not_asked(demand))
    if demand.count is None and demand.engine.footprint(demand.facts, asked) is None:
        return _on_cpus(inventory, demand, _count_needed(demand))
    books = Books(demand)
    looks = [(node, look(node, demand, books)) for node in inventory.nodes]
    rejected = [Rejected(node.name, product(node), seen) for node, seen in looks if isinstance(seen, Reason)]
    sites = _without_risk([seen for _, seen in looks if not isinstance(seen, Reason)], rejected)
    now = [option for options in sites if (option := _best_now(options, demand))]
    taken = {option.node.name for option in now}
    waiting = [options[0] for options in sites if options[0].node.name not in taken]
    rejected += [Rejected(o.node.name, product(o.node), _not_now(o, demand)) for o in waiting]
    if now:
        return _placement(now, rejected, demand)
    if waiting:
        nearest = min(waiting, key=lambda o: _lack(o, demand))
        return Refusal(_wait_for(nearest, demand), _bounded(rejected))
    return _on_cpus(inventory, demand, Refusal(_never(looks, demand), _bounded(rejected)))


def _without_risk(sites: list[list[Option]], rejected: list[Rejected]) -> list[list[Option]]:
    """Return *sites* without options that are risky, if any is not; nodes left without one are *rejected*."""
    certain = [[option for option in options if option.verdict is not Verdict.RISKY] for options in sites]
    if not any(certain):
        return sites
    for options, left in zip(sites, certain, strict=True):
        if not left:
            node = options[0].node
            rejected.append(Rejected(node.name, product(node), _risky(options[0])))
    return [left for left in certain if left]


def _best_now(options: list[Option], demand: Demand) -> Option | None:
    node = options[0].node
    free = 0 if node.unusable else node.free(demand.resource_name)
    return next((option for option in options if option.gpus <= free), None)


# --- the choice --------------------------------------------------------------------------------------


def _placement(now: list[Option], rejected: list[Rejected], demand: Demand) -> Placement:
    places: dict[str, int] = {}
    for option in now:
        name = product(option.node)
        places[name] = places.get(name, 0) + option.node.free(demand.resource_name) // option.gpus

    def rank(option: Option) -> tuple[bool, int, int, str]:
        node = option.node
        memory_bytes = option.gpus * (node.gpu.memory_bytes if node.gpu else 0)
        left = node.free(demand.resource_name) - option.gpus
        is_short = places[product(node)] < demand.replicas
        return is_short, memory_bytes, left, node.name

    ordered = sorted(now, key=rank)
    best = widened(ordered[0], demand)
    rejected = [Rejected(o.node.name, product(o.node), _looser(o, best)) for o in ordered[1:]] + rejected
    gpu, footprint = best.node.gpu, best.sum.footprint
    return Placement(
        node=best.node.name,
        product=gpu.product if gpu else "",
        gpus=best.gpus,
        gpu_memory_bytes=gpu.memory_bytes if gpu else 0,
        context_tokens=footprint.context_tokens if footprint else demand.ask.context_tokens,
        max_concurrency=footprint.max_concurrency if footprint else demand.ask.max_concurrency,
        verdict=best.verdict,
        footprint=footprint,
        message=_told(best, places[product(best.node)], demand),
        rejected=_bounded(rejected),
        capability=gpu.capability if gpu else None,
        driver_major=gpu.driver_major if gpu else None,
        shares=gpu.shares if gpu else 1,
        is_time_sliced=gpu.is_time_sliced if gpu else False,
    )


def _told(best: Option, places: int, demand: Demand) -> str:
    node = best.node
    where = f"{demand.service}: {best.gpus} x {described(node)} on {node.name}"
    footprint, room = best.sum.footprint, best.sum.room
    if footprint and room:
        at_once = max(0, room.kv_low_bytes) // footprint.kv_bytes_one_request
        where += (
            f", {best.verdict}: {memory.parts(footprint)} each; contexts of {footprint.context_tokens} "
            f"tokens, {at_once} of them whole at a time, up to {footprint.max_concurrency} requests"
        )
    else:
        where += ", not reckoned: what the model needs is not known"
    if places < demand.replicas:
        where += f"; {places} of {demand.replicas} replicas have a place now"
    return where


def _looser(option: Option, best: Option) -> Reason:
    return Reason(
        "LooserFit",
        f"{option.node.name}: would do with {option.gpus} x {described(option.node)} ({option.verdict}), "
        f"found {best.node.name} tighter with {best.gpus} x {described(best.node)} ({best.verdict}); "
        "name its product in accelerator.products to prefer it",
    )


# --- refusals ----------------------------------------------------------------------------------------


def _risky(option: Option) -> Reason:
    footprint, node = option.sum.footprint, option.node
    needed = f" with {readable_bytes(memory.needed_bytes(footprint))} usable" if footprint else ""
    return Reason(
        "RiskyFit",
        f"{node.name}: needs {option.gpus} x GPU{needed} to be certain, found {described(node)}, which is "
        "enough only with the least overhead; it is left out while another node could hold it for certain",
    )


def _not_now(option: Option, demand: Demand) -> Reason:
    node = option.node
    if node.unusable:
        return node.unusable
    return Reason(
        "NotEnoughFree",
        f"{node.name}: needs {option.gpus} x {described(node)}, found {node.free(demand.resource_name)} of "
        f"{node.total(demand.resource_name)} free; free a GPU",
    )


def _lack(option: Option, demand: Demand) -> tuple[bool, int, str]:
    node = option.node
    lack = option.gpus - node.free(demand.resource_name)
    return node.unusable is not None, lack, node.name


def _wait_for(nearest: Option, demand: Demand) -> Reason:
    node = nearest.node
    needs = f"{demand.service}: needs {nearest.gpus} x {described(node)} on one node"
    if node.unusable:
        return Reason(
            "WaitingForCapacity", f"{needs}, found {node.name} unusable now ({node.unusable.message})"
        )
    free, total = node.free(demand.resource_name), node.total(demand.resource_name)
    return Reason(
        "WaitingForCapacity",
        f"{needs}, found {free} of {total} free on {node.name}; free {nearest.gpus - free} GPU there "
        "or add such a node",
    )


def _never(looks: list[tuple[NodeState, list[Option] | Reason]], demand: Demand) -> Reason:
    small = [(node, seen) for node, seen in looks if isinstance(seen, TooSmall)]
    if small:
        node, least = max(small, key=lambda pair: _size(pair[0], demand))
        return Reason(
            "NeverFits",
            f"{demand.service}: needs {least.gpus} x GPU with "
            f"{readable_bytes(memory.needed_bytes(least.footprint))} usable "
            f"({memory.parts(least.footprint)}) for {least.footprint.context_tokens} tokens, the largest "
            f"candidate {node.name} has {node.total(demand.resource_name)} x {described(node)}; "
            "add a larger GPU, lower engine.contextTokens or engine.maxConcurrency, or use a smaller model",
        )
    reasons = [(node, seen) for node, seen in looks if isinstance(seen, Reason)]
    if not reasons:
        return Reason(
            "NeverFits", f"{demand.service}: needs {demand.resource_name}, found no node; add one with a GPU"
        )
    node, reason = max(reasons, key=lambda pair: _size(pair[0], demand))
    return Reason(
        "NeverFits", f"{demand.service}: needs a node, found none of {len(reasons)}; {reason.message}"
    )


def _size(node: NodeState, demand: Demand) -> tuple[int, int]:
    total = node.total(demand.resource_name)
    return total * (node.gpu.memory_bytes if node.gpu else 0), total


def _count_needed(demand: Demand) -> Refusal:
    return Refusal(
        Reason(
            "CountNeeded",
            f"{demand.service}: needs accelerator.count as a number, since what {demand.facts.name} takes "
            f"with {demand.engine.name} is not known, found Auto; set it",
        )
    )


def _cpu_not_asked(demand: Demand) -> Refusal:
    return Refusal(
        Reason(
            "GpuNeeded",
            f"{demand.service}: needs at least 1 GPU, found accelerator.count 0; set it to Auto, or "
            "accelerator.cpuFallback to true",
        )
    )


# --- CPUs --------------------------------------------------------------------------------------------


def _on_cpus_alone(inventory: Inventory, demand: Demand) -> Placement | Refusal:
    """Return a node for an engine that uses no GPU: one without GPUs first, then the most free memory."""
    usable = [n for n in inventory.nodes if n.can_run_pods and not filters.excluded_for_pods(n, demand)]
    if not usable:
        return Refusal(
            Reason(
                "NeverFits",
                f"{demand.service}: needs a node that takes its pods, found none of {len(inventory.nodes)}; "
                "widen placement or add a node",
            )
        )

    def rank(node: NodeState) -> tuple[bool, int, str]:
        return node.total(demand.resource_name) > 0, -node.free(MEMORY_RESOURCE), node.name

    node = min(usable, key=rank)
    return Placement(
        node=node.name,
        product="",
        gpus=0,
        gpu_memory_bytes=0,
        context_tokens=None,
        max_concurrency=None,
        verdict=Verdict.UNKNOWN,
        footprint=None,
        message=f"{demand.service}: CPUs of {node.name}; {demand.engine.name} needs no GPU",
    )


def _on_cpus(inventory: Inventory, demand: Demand, otherwise: Refusal) -> Placement | Refusal:
    """Return the node with the least free memory that holds it, where the user allows CPUs."""
    is_wanted = demand.cpu_fallback or (demand.count == 0 and not demand.engine.formats)
    asked = demand.asked(0, None, demand.least_context())
    if not is_wanted or demand.engine.refuses(demand.facts, asked):
        return otherwise
    footprint = demand.engine.footprint(demand.facts, asked)
    needed = memory.needed_bytes(footprint) if footprint else 0
    usable = [
        node
        for node in inventory.nodes
        if node.can_run_pods
        and node.free(MEMORY_RESOURCE) >= needed
        and not filters.excluded_for_pods(node, demand)
    ]
    if not usable:
        return otherwise
    node = min(usable, key=lambda node: (node.free(MEMORY_RESOURCE), node.name))
    return Placement(
        node=node.name,
        product="",
        gpus=0,
        gpu_memory_bytes=0,
        context_tokens=footprint.context_tokens if footprint else demand.ask.context_tokens,
        max_concurrency=footprint.max_concurrency if footprint else demand.ask.max_concurrency,
        verdict=Verdict.FITS if footprint else Verdict.UNKNOWN,
        footprint=footprint,
        message=f"{demand.service}: CPUs of {node.name}, "
        + (
            f"{readable_bytes(needed)} of memory; {otherwise.reason.message}" if footprint else "not reckoned"
        ),
        rejected=otherwise.rejected,
    )


# --- order -------------------------------------------------------------------------------------------

NEAREST = (
    "LooserFit",
    "RiskyFit",
    "NotEnoughFree",
    "NodeNotReady",
    "NodeCordoned",
    "GpusUnhealthy",
    "GpuTooSmall",
)
"""Codes of nodes that nearly did, from the nearest."""


def _bounded(rejected: list[Rejected]) -> tuple[Rejected, ...]:
    """Return the nodes that came nearest; those without any GPU last."""

    def nearness(row: Rejected) -> tuple[int, bool, str]:
        code = row.reason.code
        return NEAREST.index(code) if code in NEAREST else len(NEAREST), not row.product, row.node

    plain = [Rejected(r.node, r.product, Reason(r.reason.code, r.reason.message)) for r in rejected]
    return tuple(sorted(plain, key=nearness)[:MAX_REJECTED])
