"""Which GPUs the cluster has and which are free, from nodes and pods alone, better with ModelNodes.

Labels: NVIDIA's GPU feature discovery 0.20; research/engines.md 5.1, 5.2.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modelops.api.quantities import parse_memory
from modelops.engines.base import Gpu
from modelops.placement.devices import GPU_RESOURCE, INVALID, PRODUCT_LABEL, Device, devices
from modelops.placement.reports import ModelNodeRow
from modelops.plan import Manifest, Reason

__all__ = ["GPU_RESOURCE", "Inventory", "ModelNodeRow", "NodeRow", "NodeState", "PodUse", "inventory"]

MEMORY_RESOURCE = "memory"
NOT_READY, CORDONED = "NodeNotReady", "NodeCordoned"
MAX_FAULTS = 3
FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Taint:
    """A node's taint; an empty value is none."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def __str__(self) -> str:
        value = f"={self.value}" if self.value else ""
        return f"{self.key}{value}:{self.effect}"


@dataclass(frozen=True, slots=True)
class Toleration:
    """A pod's toleration; an empty key or effect stands for all."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "Toleration":
        """Return the toleration that a pod's ``spec.tolerations`` holds."""
        return cls(
            key=manifest.get("key") or "",
            operator=manifest.get("operator") or "Equal",
            value=manifest.get("value") or "",
            effect=manifest.get("effect") or "",
        )

    def covers(self, taint: Taint) -> bool:
        """Tell whether this toleration lets a pod onto a node with *taint*, as the scheduler does."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.operator == "Exists":
            return self.key in ("", taint.key)
        return self.key == taint.key and self.value == taint.value


@dataclass(frozen=True, slots=True)
class NodeRow:
    """What is read of a node; amounts are whole numbers, memory in bytes."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, int] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    ready: bool = True

    @classmethod
    def read(cls, node: Manifest) -> "NodeRow":
        """Return the row of a Node; without a Ready condition it is not ready."""
        spec, status = node.get("spec") or {}, node.get("status") or {}
        return cls(
            name=node["metadata"]["name"],
            labels=dict(node["metadata"].get("labels") or {}),
            allocatable=amounts(status.get("allocatable")),
            capacity=amounts(status.get("capacity")),
            unschedulable=bool(spec.get("unschedulable")),
            taints=tuple(
                Taint(taint["key"], taint.get("value") or "", taint["effect"])
                for taint in spec.get("taints") or ()
            ),
            ready=any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in status.get("conditions") or ()
            ),
        )


@dataclass(frozen=True, slots=True)
class PodUse:
    """What one pod takes of its node; a plan whose pod does not stand yet may be one too."""

    node: str
    requests: Mapping[str, int]

    @classmethod
    def read(cls, pod: Manifest) -> "PodUse | None":
        """Return what *pod* takes; None when it has no node yet, or has ended."""
        spec = pod.get("spec") or {}
        if not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in FINISHED:
            return None
        return cls(node=spec["nodeName"], requests=pod_requests(spec))


@dataclass(frozen=True, slots=True)
class Health:
    """What the agent knows of one resource of a node."""

    broken: int = 0
    """What the agent found broken while the node still offers it, in shares where it is shared."""
    faults: tuple[str, ...] = ()
    """What is wrong with those."""
    idle: int | None = None
    """Healthy ones whose memory nobody holds, as the agent sees them.  None: not told, or shared."""


WELL = Health()


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node: what it has, what is taken, and why it cannot be used now."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    devices: tuple[Device, ...]
    """What NVIDIA's device plugin offers, the plain resource first."""
    allocatable: Mapping[str, int]
    used: Mapping[str, int]
    health: Mapping[str, Health] = field(default_factory=dict)
    """By resource, where the agent has something to say."""
    islands: tuple[int, ...] | None = None
    """How many healthy GPUs NVLink joins, by island, the largest first.  None: nobody looked."""
    unusable: Reason | None = None
    """Why nobody can use its GPUs, now or ever."""
    is_passing: bool = False
    """Whether that reason may pass by itself or by an admin's hand, without new hardware."""
    group: int = 0
    """Its place in ``Inventory.alike``."""
    free_gpus: int = field(init=False, repr=False, compare=False)
    """Reckoned once, since every service that is placed asks every node."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "free_gpus", self._free(GPU_RESOURCE, self.health.get(GPU_RESOURCE, WELL)))

    @property
    def gpu(self) -> Gpu | None:
        """What one of the plain resource is; None: no GPU, or none whose labels tell what it is."""
        return self.devices[0].gpu

    def device(self, resource: str) -> Device:
        """Return what *resource* is here; one that nobody describes has no GPU."""
        return next((known for known in self.devices if known.resource == resource), Device(resource))

    @property
    def can_run_pods(self) -> bool:
        """Whether the scheduler may bind a pod to it now, GPUs or not."""
        return self.unusable is None or self.unusable.code not in (NOT_READY, CORDONED)

    def total(self, resource: str) -> int:
        """Return how many of *resource* pods could ever have here."""
        return self.allocatable.get(resource, 0)

    def free(self, resource: str) -> int:
        """Return how many of *resource* a new pod could have."""
        if resource == GPU_RESOURCE:
            return self.free_gpus
        return self._free(resource, self.health.get(resource, WELL))

    def _free(self, resource: str, health: Health) -> int:
        left = self.total(resource) - self.used.get(resource, 0) - health.broken
        return max(0, left if health.idle is None else min(left, health.idle))

    def free_of_total(self, resource: str) -> str:
        """Return how many are free, for people, and what keeps the rest back beside pods: 5 of 8 free."""
        told = f"{self.free(resource)} of {self.total(resource)} free"
        health = self.health.get(resource, WELL)
        why = [_listed(health.faults)] if health.faults else []
        held = self._free(resource, replace(health, idle=None)) - self.free(resource)
        if held:
            why.append(f"memory of {held} is held by others than pods that asked for a GPU")
        return f"{told} ({'; '.join(why)})" if why else told

    def taking(self, requests: Mapping[str, int]) -> "NodeState":
        """Return the node with *requests* taken too, of the idle ones: such pods hold no memory yet."""
        used = {**self.used, **{key: self.used.get(key, 0) + count for key, count in requests.items()}}
        health = {
            key: known
            if known.idle is None
            else replace(known, idle=max(0, known.idle - requests.get(key, 0)))
            for key, known in self.health.items()
        }
        return replace(self, used=used, health=health)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All nodes, by name."""

    nodes: tuple[NodeState, ...] = ()
    alike: tuple[tuple[NodeState, ...], ...] = ()
    """The same nodes together with those that differ in name, labels and use alone; each by name."""

    def node(self, name: str) -> NodeState | None:
        """Return the node of that name."""
        at = bisect_left(self.nodes, name, key=_name)
        return self.nodes[at] if at < len(self.nodes) and self.nodes[at].name == name else None

    def taking(self, name: str, requests: Mapping[str, int]) -> "Inventory":
        """Return the inventory once *requests* are taken of the node *name*; itself without such a node."""
        before = self.node(name)
        return self if before is None else self.swapping(before.taking(requests))

    def swapping(self, after: NodeState) -> "Inventory":
        """Return the inventory with *after* in place of the node of its name, which it is like."""
        alike = list(self.alike)
        alike[after.group] = _swapped(alike[after.group], after)
        return Inventory(_swapped(self.nodes, after), tuple(alike))

    def replacing(self, after: Mapping[str, NodeState]) -> "Inventory":
        """Return the inventory with others in place of the nodes of those names, each like the one before."""
        if not after:
            return self
        groups = {node.group for node in after.values()}
        alike = tuple(
            tuple([after.get(node.name, node) for node in group]) if number in groups else group
            for number, group in enumerate(self.alike)
        )
        return Inventory(tuple([after.get(node.name, node) for node in self.nodes]), alike)


def _name(node: NodeState) -> str:
    return node.name


def _swapped(nodes: tuple[NodeState, ...], after: NodeState) -> tuple[NodeState, ...]:
    at = bisect_left(nodes, after.name, key=_name)
    return (*nodes[:at], after, *nodes[at + 1 :])


def inventory(
    nodes: Iterable[NodeRow], pods: Iterable[PodUse], model_nodes: Iterable[ModelNodeRow] = ()
) -> Inventory:
    """Return what the cluster has; *pods* are those that are bound and have not ended."""
    used = _used(pods)
    reports = {row.name: row for row in model_nodes}
    ordered = sorted(nodes, key=lambda node: node.name)
    states = [_state(n, used.get(n.name, {}), reports.get(n.name)) for n in ordered]
    groups: dict[object, int] = {}
    states = [replace(state, group=groups.setdefault(_likeness(state), len(groups))) for state in states]
    alike: list[list[NodeState]] = [[] for _ in groups]
    for state in states:
        alike[state.group].append(state)
    return Inventory(tuple(states), tuple(map(tuple, alike)))


def renewed(before: Inventory, used: Mapping[str, Mapping[str, int]]) -> Inventory:
    """Return *before* with what pods take now of the nodes in *used*, all else as it was."""
    nodes = {name: node for name in used if (node := before.node(name)) is not None}
    return before.replacing({name: replace(node, used=dict(used[name])) for name, node in nodes.items()})


def _used(pods: Iterable[PodUse]) -> dict[str, dict[str, int]]:
    """Return what is taken of each node."""
    used: dict[str, dict[str, int]] = {}
    for pod in pods:
        taken = used.setdefault(pod.node, {})
        for name, count in pod.requests.items():
            taken[name] = taken.get(name, 0) + count
    return used


def _likeness(node: NodeState) -> object:
    """Return what decides on a node before its name, labels and use are looked at."""
    why = node.unusable.code if node.unusable else ""
    amounts = frozenset(node.allocatable.items())
    return node.devices, amounts, node.taints, why, node.is_passing, node.islands


def pod_requests(spec: Mapping[str, Any]) -> dict[str, int]:
    """Return what a pod's spec takes of memory and extended resources.

    Init containers run one after another, so the largest counts; sidecars stay beside the rest.
    """
    running: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        own = _container(container)
        if container.get("restartPolicy") == "Always":
            running.update(own)
            peak |= running
        else:
            peak |= running + own
    for container in spec.get("containers") or ():
        running.update(_container(container))
    return dict(peak | running)


def amounts(resources: Mapping[str, Any] | None) -> dict[str, int]:
    """Return memory in bytes and extended resources (those with a slash) as numbers; nothing else."""
    wanted = {
        key: str(text) for key, text in (resources or {}).items() if key == MEMORY_RESOURCE or "/" in key
    }
    return {key: _quantity(text) for key, text in wanted.items()}


def _listed(faults: tuple[str, ...]) -> str:
    more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
    return "; ".join(faults[:MAX_FAULTS]) + more


def _container(container: Mapping[str, Any]) -> Counter[str]:
    resources = container.get("resources") or {}
    return Counter({**amounts(resources.get("limits")), **amounts(resources.get("requests"))})


def _quantity(text: str) -> int:
    if text.endswith("m"):
        return -(-int(text[:-1]) // 1000)
    return parse_memory(text)


def _state(node: NodeRow, used: Mapping[str, int], report: ModelNodeRow | None) -> NodeState:
    offered = devices(node.labels, node.allocatable, report.memory_bytes if report else None)
    unusable, is_passing = _unusable(node, report)
    return NodeState(
        name=node.name,
        labels=node.labels,
        taints=node.taints,
        devices=offered,
        allocatable=node.allocatable,
        used=used,
        health={device.resource: _health(node, device, report) for device in offered} if report else {},
        islands=report.islands if report else None,
        unusable=unusable,
        is_passing=is_passing,
    )


def _health(node: NodeRow, device: Device, report: ModelNodeRow) -> Health:
    """Return what the agent adds: the device plugin takes broken GPUs out of allocatable itself."""
    resource, shares = device.resource, device.gpu.shares if device.gpu else 1
    gone = max(0, node.capacity.get(resource, 0) - node.allocatable.get(resource, 0))
    if device.profile:
        broken, faults = report.broken_slices.get(device.profile, 0), report.slice_faults
        idle = report.idle_slices.get(device.profile)
    else:
        broken, faults, idle = report.gpus - report.healthy, report.faults, report.idle
    left = max(0, broken - gone // shares)
    return Health(left * shares, faults if broken else (), idle if device.gpu and shares == 1 else None)


def _unusable(node: NodeRow, report: ModelNodeRow | None) -> tuple[Reason | None, bool]:
    """Return why the node's GPUs cannot be used, and whether that may pass."""
    if not node.ready:
        return Reason(
            NOT_READY, f"{node.name}: needs a ready node, found it not ready; see kubectl describe node"
        ), True
    if node.unschedulable:
        return Reason(
            CORDONED, f"{node.name}: needs a schedulable node, found it cordoned; uncordon it"
        ), True
    product = node.labels.get(PRODUCT_LABEL, "")
    if INVALID in product:
        return Reason(
            "MigInvalid",
            f"{node.name}: needs GPUs that MIG cut up alike, as strategy single wants it, found {product}; "
            "cut them alike or set the device plugin's strategy to mixed",
        ), True
    if report and report.is_all_broken:
        faults = report.faults + report.slice_faults
        return Reason(
            "GpusUnhealthy",
            f"{node.name}: needs a healthy GPU, found 0 of {report.gpus + len(report.slice_faults)} "
            f"({_listed(faults)}); see kubectl get modelnode {node.name} -o yaml",
        ), True
    return None, False
