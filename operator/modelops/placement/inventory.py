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
from modelops.plan import Manifest, Reason

MIB = 2**20
GPU_RESOURCE = "nvidia.com/gpu"
MEMORY_RESOURCE = "memory"
PREFIX = "nvidia.com/"
MIG_RESOURCE = "nvidia.com/mig-"
NOT_READY, CORDONED = "NodeNotReady", "NodeCordoned"
IDLE = 0.9
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
class ModelNodeRow:
    """What the agent on a node knows better than its labels."""

    name: str
    gpus: int
    """Whole ones; those that MIG cut up are not counted."""
    healthy: int
    memory_bytes: int | None = None
    """Of the smallest GPU, with the driver's reserve."""
    faults: tuple[str, ...] = ()
    """What is wrong with those that may not be used, by GPU."""
    idle: int | None = None
    """Healthy GPUs whose memory nobody holds.  None: some do not tell."""
    slices: Mapping[str, int] = field(default_factory=dict)
    """MIG slices by profile."""
    islands: tuple[int, ...] = ()
    """How many healthy GPUs NVLink joins, by island, the largest first."""

    @classmethod
    def read(cls, model_node: Manifest) -> "ModelNodeRow | None":
        """Return the row of a ModelNode; None when nobody reported GPUs."""
        gpus = (model_node.get("status") or {}).get("gpus") or ()
        if not gpus:
            return None
        whole = [gpu for gpu in gpus if not gpu.get("migEnabled")]
        healthy = [gpu for gpu in whole if gpu["healthy"]]
        sizes = [int(gpu["memoryBytes"]) for gpu in whole if gpu.get("memoryBytes")]
        joined = Counter(gpu["nvlinkIsland"] for gpu in healthy if "nvlinkIsland" in gpu)
        return cls(
            name=model_node["metadata"]["name"],
            gpus=len(whole),
            healthy=len(healthy),
            memory_bytes=min(sizes, default=None),
            faults=tuple(
                f"GPU {gpu['index']}: {gpu.get('fault') or 'no cause told'}"
                for gpu in whole
                if not gpu["healthy"]
            ),
            idle=_idle(healthy),
            slices=Counter(piece["profile"] for gpu in gpus for piece in gpu.get("mig") or ()),
            islands=tuple(sorted(joined.values(), reverse=True)),
        )


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node: what it has, what is taken, and why it cannot be used now."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    gpu: Gpu | None
    """None: no GPU, or none whose labels tell what it is."""
    allocatable: Mapping[str, int]
    used: Mapping[str, int]
    unhealthy: int = 0
    """GPUs that the agent found broken while the node still offers them."""
    faults: tuple[str, ...] = ()
    """What is wrong with those."""
    idle: int | None = None
    """Healthy GPUs whose memory nobody holds, as the agent sees them.  None: not told, or GPUs are shared."""
    unusable: Reason | None = None
    """Why nobody can use its GPUs, now or ever."""
    is_passing: bool = False
    """Whether that reason may pass by itself or by an admin's hand, without new hardware."""
    group: int = 0
    """Its place in ``Inventory.alike``."""
    free_gpus: int = field(init=False, repr=False, compare=False)
    """Reckoned once, since every service that is placed asks every node."""

    def __post_init__(self) -> None:
        shares = self.gpu.shares if self.gpu else 1
        taken = self.used.get(GPU_RESOURCE, 0) + self.unhealthy * shares
        left = self.total(GPU_RESOURCE) - taken
        object.__setattr__(self, "free_gpus", max(0, left if self.idle is None else min(left, self.idle)))

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
        return max(0, self.total(resource) - self.used.get(resource, 0))

    def free_of_total(self, resource: str) -> str:
        """Return how many are free, for people, and what keeps the rest back beside pods: 5 of 8 free."""
        told = f"{self.free(resource)} of {self.total(resource)} free"
        why = [_listed(self.faults)] if resource == GPU_RESOURCE and self.faults else []
        held = replace(self, idle=None).free(resource) - self.free(resource)
        if held:
            why.append(f"memory of {held} is held by others than pods that asked for a GPU")
        return f"{told} ({'; '.join(why)})" if why else told

    def taking(self, requests: Mapping[str, int]) -> "NodeState":
        """Return the node with *requests* taken too, of the idle ones: such pods hold no memory yet."""
        used = {**self.used, **{key: self.used.get(key, 0) + count for key, count in requests.items()}}
        idle = None if self.idle is None else max(0, self.idle - requests.get(GPU_RESOURCE, 0))
        return replace(self, used=used, idle=idle)


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


def renewed(before: Inventory, pods: Iterable[PodUse]) -> Inventory:
    """Return *before* with what *pods* take now, for nodes that are as they were."""
    used = _used(pods)
    after = before
    for node in before.nodes:
        taken = used.get(node.name, {})
        if taken != node.used:
            after = after.swapping(replace(node, used=taken))
    return after


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
    return node.gpu, frozenset(node.allocatable.items()), node.taints, why, node.is_passing


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


def _idle(gpus: Iterable[Mapping[str, Any]]) -> int | None:
    """Return how many of *gpus* have nine tenths of their memory free: drivers keep up to 3 % of it.

    Source: 456 of 23,034 MiB on an L4; engines that ask for 92 % of a GPU do not start on less.
    """
    shares = [
        gpu["freeBytes"] / gpu["memoryBytes"] if "freeBytes" in gpu and gpu.get("memoryBytes") else None
        for gpu in gpus
    ]
    told = [share for share in shares if share is not None]
    return sum(share >= IDLE for share in told) if len(told) == len(shares) else None


def _container(container: Mapping[str, Any]) -> Counter[str]:
    resources = container.get("resources") or {}
    return Counter({**amounts(resources.get("limits")), **amounts(resources.get("requests"))})


def _quantity(text: str) -> int:
    if text.endswith("m"):
        return -(-int(text[:-1]) // 1000)
    return parse_memory(text)


def _state(node: NodeRow, used: Mapping[str, int], report: ModelNodeRow | None) -> NodeState:
    gpu = _gpu(node, report)
    unusable, is_passing = _unusable(node, gpu, report)
    # The device plugin takes broken GPUs out of allocatable itself; what the agent adds is the rest.
    gone = max(0, node.capacity.get(GPU_RESOURCE, 0) - node.allocatable.get(GPU_RESOURCE, 0))
    broken = report.gpus - report.healthy if report else 0
    return NodeState(
        name=node.name,
        labels=node.labels,
        taints=node.taints,
        gpu=gpu,
        allocatable=node.allocatable,
        used=used,
        unhealthy=max(0, broken - gone // (gpu.shares if gpu else 1)),
        faults=report.faults if report else (),
        idle=report.idle if report and gpu and gpu.shares == 1 else None,
        unusable=unusable,
        is_passing=is_passing,
    )


def _gpu(node: NodeRow, report: ModelNodeRow | None) -> Gpu | None:
    """Return what the labels say; the memory label is of the whole GPU also where it is shared."""
    labels = node.labels
    product = labels.get(f"{PREFIX}gpu.product", "")
    memory = _number(labels, "gpu.memory") * MIB or (report.memory_bytes or 0 if report else 0)
    if not product or not memory:
        return None
    sharing = labels.get(f"{PREFIX}gpu.sharing-strategy", "none")
    is_shared = sharing in ("time-slicing", "mps") or product.endswith("-SHARED")
    shares = max(1, _number(labels, "gpu.replicas")) if is_shared else 1
    major = _number(labels, "gpu.compute.major")
    driver = _number(labels, "cuda.driver-version.major") or _number(labels, "cuda.driver.major")
    return Gpu(
        product=product,
        memory_bytes=memory // shares,
        capability=(major, _number(labels, "gpu.compute.minor")) if major else None,
        driver_major=driver or None,
        shares=shares,
        is_time_sliced=shares > 1 and sharing != "mps",
    )


def _number(labels: Mapping[str, str], key: str) -> int:
    text = labels.get(PREFIX + key, "")
    return int(text) if text.isdecimal() else 0


def _unusable(node: NodeRow, gpu: Gpu | None, report: ModelNodeRow | None) -> tuple[Reason | None, bool]:
    """Return why the node's GPUs cannot be used, and whether that may pass."""
    if not node.ready:
        return Reason(
            NOT_READY, f"{node.name}: needs a ready node, found it not ready; see kubectl describe node"
        ), True
    if node.unschedulable:
        return Reason(
            CORDONED, f"{node.name}: needs a schedulable node, found it cordoned; uncordon it"
        ), True
    slices = sorted(key for key, count in node.allocatable.items() if key.startswith(MIG_RESOURCE) and count)
    if (gpu and "-MIG-" in gpu.product) or (slices and not node.allocatable.get(GPU_RESOURCE)):
        found = ", ".join(slices) or (gpu.product if gpu else "")
        return Reason(
            "MigUnsupported",
            f"{node.name}: needs whole GPUs, found MIG slices ({found}), which are not planned yet; "
            "turn MIG off on this node",
        ), False
    if report and report.gpus and report.healthy == 0:
        return Reason(
            "GpusUnhealthy",
            f"{node.name}: needs a healthy GPU, found 0 of {report.gpus} ({_listed(report.faults)}); "
            f"see kubectl get modelnode {node.name} -o yaml",
        ), True
    return None, False
