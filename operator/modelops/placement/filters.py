"""Which nodes are out of the question before any arithmetic: one question, one function, one line."""

from collections.abc import Mapping

from modelops.api.quantities import readable_bytes
from modelops.placement.demand import Demand
from modelops.placement.inventory import GPU_RESOURCE, MIG_RESOURCE, NodeState, Toleration
from modelops.plan import Reason

ZONE = "topology.kubernetes.io/zone"
BLOCKING = ("NoSchedule", "NoExecute")
SHARED = "-SHARED"


def excluded(node: NodeState, demand: Demand) -> Reason | None:
    """Return why *node* can never take the pod; what may pass by itself is no such reason."""
    return (
        _cut_up(node, demand.resource_name)
        or _without(node, demand.resource_name)
        or _other_product(node, demand.products)
        or excluded_for_pods(node, demand)
        or _less_memory(node, demand.min_memory_bytes)
    )


def excluded_for_pods(node: NodeState, demand: Demand) -> Reason | None:
    """Return why the scheduler would keep a pod off *node*, with or without a GPU."""
    return (
        _other_labels(node, demand.node_selector)
        or _other_zone(node, demand.zones)
        or _untolerated(node, tuple(map(Toleration.read, demand.tolerations)))
    )


def labels_seen(node: NodeState, demand: Demand) -> tuple[str | None, ...]:
    """Return the labels by which nodes that are otherwise alike differ for *demand*."""
    keys = (*sorted(demand.node_selector), *([ZONE] if demand.zones else []))
    return tuple(node.labels.get(key) for key in keys)


def _cut_up(node: NodeState, resource_name: str) -> Reason | None:
    if resource_name.startswith(MIG_RESOURCE):
        return Reason(
            "MigUnsupported",
            f"{node.name}: needs whole GPUs, found {resource_name} wanted, and slices are not planned yet; "
            f"set accelerator.resourceName to {GPU_RESOURCE}",
        )
    return None if node.is_passing else node.unusable


def _without(node: NodeState, resource_name: str) -> Reason | None:
    if node.total(resource_name):
        return None
    others = sorted(key for key, count in node.allocatable.items() if "gpu" in key and count)
    return Reason(
        "AcceleratorMissing",
        f"{node.name}: needs {resource_name}, found {', '.join(others) or 'none'}; "
        "add a GPU, or see why its device plugin offers none",
    )


def _other_product(node: NodeState, products: tuple[str, ...]) -> Reason | None:
    found = node.gpu.product if node.gpu else ""
    if not products or found.removesuffix(SHARED).lower() in {
        p.removesuffix(SHARED).lower() for p in products
    }:
        return None
    return Reason(
        "ProductNotAllowed",
        f"{node.name}: needs {' or '.join(products)}, found {found or 'no product label'}; "
        "widen accelerator.products",
    )


def _other_labels(node: NodeState, node_selector: Mapping[str, str]) -> Reason | None:
    for key, value in sorted(node_selector.items()):
        if node.labels.get(key) != value:
            return Reason(
                "SelectorMismatch",
                f"{node.name}: needs label {key}={value}, found {node.labels.get(key, 'none')}; "
                "widen placement.nodeSelector or label the node",
            )
    return None


def _other_zone(node: NodeState, zones: tuple[str, ...]) -> Reason | None:
    zone = node.labels.get(ZONE, "")
    if not zones or zone in zones:
        return None
    return Reason(
        "ZoneNotAllowed",
        f"{node.name}: needs zone {' or '.join(zones)}, found {zone or 'none'}; widen placement.zones",
    )


def _untolerated(node: NodeState, tolerations: tuple[Toleration, ...]) -> Reason | None:
    for taint in node.taints:
        if taint.effect not in BLOCKING or any(toleration.covers(taint) for toleration in tolerations):
            continue
        # The cluster sets and lifts these itself; readiness and cordon are looked at on their own.
        if taint.key.startswith("node.kubernetes.io/"):
            continue
        return Reason(
            "TaintNotTolerated",
            f"{node.name}: needs a toleration for taint {taint}, found none; add it to placement.tolerations",
        )
    return None


def _less_memory(node: NodeState, min_memory_bytes: int | None) -> Reason | None:
    found = node.gpu.memory_bytes if node.gpu else 0
    if min_memory_bytes is None or found >= min_memory_bytes:
        return None
    return Reason(
        "MemoryBelowMinimum",
        f"{node.name}: needs {readable_bytes(min_memory_bytes)} on each GPU, found {readable_bytes(found)}; "
        "lower accelerator.minMemory",
    )
