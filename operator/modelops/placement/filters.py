"""Which nodes are out of the question before any arithmetic: one question, one function, one line."""

from collections.abc import Mapping

from modelops.api.quantities import readable_bytes
from modelops.placement.demand import Demand, Sharing
from modelops.placement.devices import CUT, SHARED, Device, same_profile
from modelops.placement.inventory import NodeState, Toleration
from modelops.plan import Reason

ZONE = "topology.kubernetes.io/zone"
BLOCKING = ("NoSchedule", "NoExecute")


def excluded(node: NodeState, demand: Demand) -> Reason | None:
    """Return why *node* can never take the pod; what may pass by itself is no such reason."""
    return (
        (None if node.is_passing else node.unusable)
        or _none_allowed(node, demand)
        or excluded_for_pods(node, demand)
    )


def allowed(node: NodeState, demand: Demand) -> tuple[Device, ...]:
    """Return what *node* offers of what the user would take."""
    return tuple(device for device in _offered(node, demand) if not _unwanted(node, device, demand))


def less_memory(node: NodeState, device: Device, demand: Demand) -> Reason | None:
    """Return why the memory of *device* is less than the user wants."""
    least, found = demand.min_memory_bytes, device.gpu.memory_bytes if device.gpu else 0
    if least is None or found >= least:
        return None
    return Reason(
        "MemoryBelowMinimum",
        f"{node.name}: needs {readable_bytes(least)} on each GPU, found {readable_bytes(found)}; "
        "lower accelerator.minMemory",
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


def _offered(node: NodeState, demand: Demand) -> tuple[Device, ...]:
    """Return the resource that the user names, else all of NVIDIA's; those alone of which there are any."""
    named = demand.resource_name
    devices = (node.device(named),) if named else node.devices
    return tuple(device for device in devices if node.total(device.resource))


def _none_allowed(node: NodeState, demand: Demand) -> Reason | None:
    """Return why nothing on *node* will do; where several are refused, the first one's reason."""
    offered = _offered(node, demand)
    if not offered:
        return _without(node, demand.resource)
    reasons = [_unwanted(node, device, demand) for device in offered]
    return None if None in reasons else reasons[0]


def _unwanted(node: NodeState, device: Device, demand: Demand) -> Reason | None:
    """Return why the user would not take *device*, whatever its memory."""
    return (
        _other_product(node, device, demand)
        or _other_partition(node, device, demand.partition)
        or _other_sharing(node, device, demand.sharing)
    )


def _without(node: NodeState, resource_name: str) -> Reason:
    others = sorted(key for key, count in node.allocatable.items() if "/" in key and count)
    return Reason(
        "AcceleratorMissing",
        f"{node.name}: needs {resource_name}, found {', '.join(others) or 'none'}; "
        "add a GPU, or see why its device plugin offers none",
    )


def _other_product(node: NodeState, device: Device, demand: Demand) -> Reason | None:
    """Return why the product is none of those named; a slice is its GPU's where slices are asked for."""
    found = device.gpu.product if device.gpu else ""
    names = {found.removesuffix(SHARED).lower()}
    if demand.partition or demand.resource_name == device.resource:
        names.add(found.removesuffix(SHARED).partition(CUT)[0].lower())
    if not demand.products or names & {name.removesuffix(SHARED).lower() for name in demand.products}:
        return None
    return Reason(
        "ProductNotAllowed",
        f"{node.name}: needs {' or '.join(demand.products)}, found {found or 'no product label'}; "
        "widen accelerator.products",
    )


def _other_partition(node: NodeState, device: Device, partition: str) -> Reason | None:
    if not partition or device.profile == same_profile(partition):
        return None
    others = sorted({known.profile for known in node.devices if known.profile})
    found = f"slices {', '.join(others)}" if others else "no MIG slice"
    return Reason(
        "PartitionNotOffered",
        f"{node.name}: needs MIG slice {partition}, found {found}; "
        "change accelerator.partition or cut a GPU of the node up so",
    )


def _other_sharing(node: NodeState, device: Device, sharing: Sharing | None) -> Reason | None:
    gpu = device.gpu
    if gpu is None or sharing is None:
        return None
    found = Sharing.EXCLUSIVE
    if gpu.shares > 1:
        found = Sharing.TIME_SLICING if gpu.is_time_sliced else Sharing.MPS
    if found is sharing:
        return None
    how = f"{gpu.product} in {gpu.shares} shares by {found}" if gpu.shares > 1 else f"{gpu.product} unshared"
    return Reason(
        "SharingNotAllowed",
        f"{node.name}: needs accelerator.sharing {sharing}, found {how}; leave sharing out to take any",
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
