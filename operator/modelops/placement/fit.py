"""Choose where a model runs: filter nodes, reckon what fits, take the tightest, say why not the others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from modelops.api.quantities import readable_bytes
from modelops.placement import filters, memory
from modelops.placement.demand import Demand
from modelops.placement.devices import Device
from modelops.placement.inventory import MEMORY_RESOURCE, Inventory, NodeState
from modelops.placement.learned import basis
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
    sights = [sight for nodes in _groups(inventory, demand) for sight in _sights(nodes, demand, books)]
    sites, piles = _sorted_out(sights)
    now = [best for site in sites if (best := _best_now(site))]
    if now:
        return _placement(now, sites, piles, demand)
    piles += [pile for site in sites for pile in _not_now_piles(site)]
    if sites:
        nearest = min((_nearest(site) for site in sites), key=_lack)
        return Refusal(_wait_for(nearest, demand), _bounded(piles))
    return _on_cpus(inventory, demand, Refusal(_never(sights, demand), _bounded(piles)))


@dataclass(frozen=True, slots=True)
class Site:
    """Nodes that are alike, and what one kind of their devices would do, were it free."""

    nodes: tuple[NodeState, ...]
    option: Option
    """On the first node, the fewest GPUs that fit, else the fewest at a risk; the same on the others."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Nodes that are alike, and why none of them will ever do."""

    nodes: tuple[NodeState, ...]
    device: Device
    reason: Reason
    """About the first node."""
    tell: Callable[[NodeState], Reason]
    """The same about another."""


@dataclass(frozen=True, slots=True)
class Pile:
    """Nodes rejected for one cause; sentences are made for the few that are told."""

    code: str
    product: str
    nodes: tuple[NodeState, ...]
    tell: Callable[[NodeState], Reason]


def _groups(inventory: Inventory, demand: Demand) -> Iterator[tuple[NodeState, ...]]:
    """Yield nodes that are alike in all that the demand looks at."""
    if demand.nodes > 1:
        yield from _kinds(inventory, demand)
        return
    for nodes in inventory.alike:
        if not demand.node_selector and not demand.zones:
            yield nodes
            continue
        parts: dict[object, list[NodeState]] = {}
        for node in nodes:
            parts.setdefault(filters.labels_seen(node, demand), []).append(node)
        yield from map(tuple, parts.values())


def _kinds(inventory: Inventory, demand: Demand) -> Iterator[tuple[NodeState, ...]]:
    """Yield nodes with the same GPUs, usable ones first: the pods of a group may be on any of them."""
    kinds: dict[object, list[NodeState]] = {}
    for node in inventory.nodes:
        totals = tuple(node.total(device.resource) for device in node.devices)
        key = node.devices, totals, node.taints, filters.labels_seen(node, demand)
        kinds.setdefault(key, []).append(node)
    for nodes in kinds.values():
        yield tuple(sorted(nodes, key=lambda node: (node.unusable is not None, node.name)))


def _sights(nodes: tuple[NodeState, ...], demand: Demand, books: Books) -> Iterator[Site | Sight]:
    """Yield what is to be said of each kind of device that the user would take; else why none will do."""
    excluded = filters.excluded(nodes[0], demand)
    if excluded:
        yield Sight(nodes, nodes[0].devices[0], excluded, partial(_excluded, demand=demand))
        return
    for device in filters.allowed(nodes[0], demand):
        found = look(nodes[0], device, demand, books)
        if isinstance(found, Reason):
            yield Sight(nodes, device, found, partial(_unfit, device=device, demand=demand, books=books))
            continue
        few = _too_few(nodes, found)
        if few is not None:
            yield Sight(nodes, device, few, partial(_same, reason=few))
        else:
            yield Site(nodes, found)


def _too_few(nodes: tuple[NodeState, ...], option: Option) -> Reason | None:
    """Return why nodes of this kind can never hold a group, whoever leaves them."""
    total = sum(node.total(option.device.resource) // option.gpus for node in nodes)
    if total >= option.nodes:
        return None
    return Reason(
        "TooFewNodes",
        f"{nodes[0].name}: needs {option.text} each, found room for {total} such pods on all nodes of its "
        "kind; lower accelerator.nodes or add such nodes",
    )


def _same(node: NodeState, *, reason: Reason) -> Reason:
    return Reason(reason.code, reason.message.replace(reason.message.partition(":")[0], node.name, 1))


def _excluded(node: NodeState, *, demand: Demand) -> Reason:
    told = filters.excluded(node, demand)
    assert told is not None, "alike nodes are refused alike"
    return told


def _unfit(node: NodeState, *, device: Device, demand: Demand, books: Books) -> Reason:
    told = look(node, device, demand, books)
    assert isinstance(told, Reason), "alike nodes are refused alike"
    return told


def _sorted_out(sights: list[Site | Sight]) -> tuple[list[Site], list[Pile]]:
    """Return the sites to choose from and the nodes that are out: risky ones where any site is certain."""
    piles = [_pile(s.reason.code, s.device, s.nodes, s.tell) for s in sights if isinstance(s, Sight)]
    sites = [sight for sight in sights if isinstance(sight, Site)]
    certain = [site for site in sites if site.option.verdict is not Verdict.RISKY]
    if not certain:
        return sites, piles
    risky = [site for site in sites if site.option.verdict is Verdict.RISKY]
    piles += [
        _pile("RiskyFit", site.option.device, site.nodes, partial(_risky, site.option)) for site in risky
    ]
    return certain, piles


def _pile(code: str, device: Device, nodes: Sequence[NodeState], tell: Callable[[NodeState], Reason]) -> Pile:
    return Pile(code, product(device), tuple(nodes[:MAX_REJECTED]), tell)


# --- the choice --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Best:
    """The tightest node of a site now, and how many pods the site could take."""

    option: Option
    left: int
    """GPUs that stay free on the node."""
    places: int
    members: tuple[str, ...] = ()
    """Nodes of the other pods of a group, the tightest first."""


def _best_now(site: Site) -> Best | None:
    """Return the node with the fewest GPUs left over; None: none has room."""
    wanted, resource = site.option.gpus, site.option.device.resource
    frees = [0 if node.unusable else node.free(resource) for node in site.nodes]
    fitting = [free for free in frees if free >= wanted]
    places = sum(free // wanted for free in fitting)
    if places < site.option.nodes:
        return None
    least = min(fitting)
    node = site.nodes[frees.index(least)]
    best = replace(site.option, node=node)
    if site.option.nodes == 1:
        return Best(best, least - wanted, places)
    return Best(best, least - wanted, places // site.option.nodes, _members(site, wanted, node.name))


def _members(site: Site, wanted: int, leader: str) -> tuple[str, ...]:
    """Return the nodes of the pods that do not lead: other nodes first, each the tightest that has room."""
    resource = site.option.device.resource
    usable = [node for node in site.nodes if not node.unusable]
    room = {node.name: node.free(resource) // wanted - (node.name == leader) for node in usable}
    ordered = sorted(usable, key=lambda n: (n.name == leader, n.free(resource), n.name))
    members: list[str] = []
    while len(members) < site.option.nodes - 1:
        for node in ordered:
            if room[node.name] > 0 and len(members) < site.option.nodes - 1:
                members.append(node.name)
                room[node.name] -= 1
    return tuple(sorted(members))


def _placement(now: list[Best], sites: list[Site], piles: list[Pile], demand: Demand) -> Placement:
    places: dict[str, int] = {}
    for found in now:
        name = product(found.option.device)
        places[name] = places.get(name, 0) + found.places

    def rank(found: Best) -> tuple[bool, bool, int, int, str]:
        option = found.option
        memory_bytes = option.nodes * option.gpus * _memory(option.device)
        lacks = places[product(option.device)] < demand.replicas
        return lacks, option.is_split, memory_bytes, found.left, option.node.name

    chosen = min(now, key=rank)
    best = widened(chosen.option, demand)
    own = {best.node.name, *chosen.members}
    piles = piles + [pile for site in sites for pile in _other_piles(site, best, own)]
    gpu, footprint = best.device.gpu, best.sum.footprint
    return Placement(
        node=best.node.name,
        product=gpu.product if gpu else "",
        gpus=best.gpus,
        gpu_memory_bytes=gpu.memory_bytes if gpu else 0,
        context_tokens=footprint.context_tokens if footprint else demand.ask.context_tokens,
        max_concurrency=footprint.max_concurrency if footprint else demand.ask.max_concurrency,
        verdict=best.verdict,
        footprint=footprint,
        message=_told(best, chosen.members, places[product(best.device)], demand),
        rejected=_bounded(piles),
        capability=gpu.capability if gpu else None,
        driver_major=gpu.driver_major if gpu else None,
        shares=gpu.shares if gpu else 1,
        is_time_sliced=gpu.is_time_sliced if gpu else False,
        resource=best.device.resource,
        nodes=best.nodes,
        members=chosen.members,
        basis=_basis(best, demand),
    )


def _basis(best: Option, demand: Demand) -> str:
    """Return the key under which the engine's own numbers will be remembered; empty: it tells none."""
    if demand.engine.queries.pool is None or best.sum.footprint is None:
        return ""
    return basis(demand.engine, demand.facts, demand.asked(best.gpus, best.device.gpu))


def _other_piles(site: Site, best: Option, own: set[str]) -> list[Pile]:
    """Return the nodes of a site that were not taken: those that would do, and those that are full."""
    if site.nodes[0].unusable:
        return _not_now_piles(site)
    option, device = site.option, site.option.device
    is_own = device == best.device
    would: list[NodeState] = []
    full: list[NodeState] = []
    for node in site.nodes:
        if not (is_own and node.name in own):
            (would if node.free(device.resource) >= option.gpus else full).append(node)
        if len(would) == MAX_REJECTED:
            break  # those that would do are told first, and no more are told
    return [
        _pile("LooserFit", device, would, lambda node: _looser(replace(option, node=node), best)),
        _pile("NotEnoughFree", device, full, partial(_not_now, option)),
    ]


def _not_now_piles(site: Site) -> list[Pile]:
    unusable = site.nodes[0].unusable
    code = unusable.code if unusable else "NotEnoughFree"
    return [_pile(code, site.option.device, site.nodes, partial(_not_now, site.option))]


def _nearest(site: Site) -> Option:
    """Return the node of a site with the most free."""
    resource = site.option.device.resource
    return replace(site.option, node=max(site.nodes, key=lambda node: node.free(resource)))


def _memory(device: Device) -> int:
    return device.gpu.memory_bytes if device.gpu else 0


def _told(best: Option, members: tuple[str, ...], places: int, demand: Demand) -> str:
    where = f"{demand.service}: {best.text} on {', '.join((best.node.name, *members))}"
    footprint, room = best.sum.footprint, best.sum.room
    if footprint and room:
        at_once = max(0, room.kv_low_bytes) // footprint.kv_bytes_one_request
        where += (
            f", {best.verdict}: {memory.parts(footprint)} each; contexts of {footprint.context_tokens} "
            f"tokens, {at_once} of them whole at a time, up to {footprint.max_concurrency} requests"
        )
    else:
        where += ", not reckoned: what the model needs is not known"
    if footprint and footprint.correction:
        where += f"; {footprint.correction}"
    if best.is_split:
        joined = max(best.node.islands or (), default=0)
        where += f"; NVLink joins {joined or 'none'} of its GPUs, so these work together over PCIe"
    if places < demand.replicas:
        where += f"; {places} of {demand.replicas} replicas have a place now"
    return where


def _looser(option: Option, best: Option) -> Reason:
    wanted = f"would do with {option.text} ({option.verdict})"
    if option.is_split and not best.is_split:
        return Reason(
            "LooserFit",
            f"{option.node.name}: {wanted} over PCIe, found {best.node.name} with {best.text} joined by "
            "NVLink; name its product in accelerator.products to prefer it",
        )
    return Reason(
        "LooserFit",
        f"{option.node.name}: {wanted}, found {best.node.name} tighter with {best.text} ({best.verdict}); "
        "name its product in accelerator.products to prefer it",
    )


# --- refusals ----------------------------------------------------------------------------------------


def _risky(option: Option, node: NodeState) -> Reason:
    footprint = option.sum.footprint
    needed = f" with {readable_bytes(memory.needed_bytes(footprint))} usable" if footprint else ""
    return Reason(
        "RiskyFit",
        f"{node.name}: needs {option.gpus} x GPU{needed} to be certain, found {described(option.device)}, "
        "which is enough only with the least overhead; it is left out while another node could hold it "
        "for certain",
    )


def _not_now(option: Option, node: NodeState) -> Reason:
    if node.unusable:
        return node.unusable
    return Reason(
        "NotEnoughFree",
        f"{node.name}: needs {option.text}, found {node.free_of_total(option.device.resource)}; free a GPU",
    )


def _lack(option: Option) -> tuple[bool, int, str]:
    lack = (option.gpus - option.free) if option.nodes == 1 else option.gpus * option.nodes
    return option.node.unusable is not None, lack, option.node.name


def _wait_for(nearest: Option, demand: Demand) -> Reason:
    node = nearest.node
    if nearest.nodes > 1 and not node.unusable:
        return Reason(
            "WaitingForCapacity",
            f"{demand.service}: needs {nearest.text} each, found room for fewer pods on nodes of that kind; "
            f"free GPUs of {product(nearest.device)} or add such nodes",
        )
    needs = f"{demand.service}: needs {nearest.text} on one node"
    if node.unusable:
        return Reason(
            "WaitingForCapacity", f"{needs}, found {node.name} unusable now ({node.unusable.message})"
        )
    return Reason(
        "WaitingForCapacity",
        f"{needs}, found {node.free_of_total(nearest.device.resource)} on {node.name}; "
        f"free {nearest.gpus - nearest.free} GPU there or add such a node",
    )


def _never(sights: list[Site | Sight], demand: Demand) -> Reason:
    seen = sorted(
        (sight for sight in sights if isinstance(sight, Sight)), key=lambda sight: sight.nodes[0].name
    )
    small = [sight for sight in seen if isinstance(sight.reason, TooSmall)]
    if small:
        largest = max(small, key=_size)
        node, device, least = largest.nodes[0], largest.device, largest.reason
        assert isinstance(least, TooSmall)
        return Reason(
            "NeverFits",
            f"{demand.service}: needs {least.gpus} x GPU with "
            f"{readable_bytes(memory.needed_bytes(least.footprint))} usable "
            f"({memory.parts(least.footprint)}) for {least.footprint.context_tokens} tokens, the largest "
            f"candidate {node.name} has {node.total(device.resource)} x {described(device)}; "
            "add a larger GPU, lower engine.contextTokens or engine.maxConcurrency, or use a smaller model",
        )
    if not seen:
        return Reason(
            "NeverFits", f"{demand.service}: needs {demand.resource}, found no node; add one with a GPU"
        )
    largest = max(seen, key=_size)
    count = len({node.name for sight in seen for node in sight.nodes})
    return Reason(
        "NeverFits", f"{demand.service}: needs a node, found none of {count}; {largest.reason.message}"
    )


def _size(sight: Sight) -> tuple[int, int]:
    total = sight.nodes[0].total(sight.device.resource)
    return total * _memory(sight.device), total


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
        has_gpus = any(node.total(device.resource) for device in node.devices)
        return has_gpus or node.total(demand.resource) > 0, -node.free(MEMORY_RESOURCE), node.name

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


def _bounded(piles: list[Pile]) -> tuple[Rejected, ...]:
    """Return the nodes that came nearest; those without any GPU last."""
    rows = [
        (
            NEAREST.index(pile.code) if pile.code in NEAREST else len(NEAREST),
            not pile.product,
            node.name,
            i,
            node,
        )
        for i, pile in enumerate(piles)
        for node in pile.nodes[:MAX_REJECTED]
    ]
    kept = sorted(rows, key=lambda row: row[:4])[:MAX_REJECTED]
    told = ((node, piles[i].product, piles[i].tell(node)) for *_, i, node in kept)
    return tuple(Rejected(node.name, name, Reason(r.code, r.message)) for node, name, r in told)
