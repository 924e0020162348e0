"""Turn what NVML says into the report of a node, and tell when to report again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelops.api import names
from modelops.api.quantities import readable_bytes
from modelops.nodes.facts import GpuFacts, Lapse, NodeFacts, Slice
from modelops.nodes.xids import CRITICAL, RECOVERY, REPLACE, RESET, RESTART
from modelops.plan import Manifest, Reason

CONDITION = "GPUsReadable"
MAX_GPUS, MAX_SLICES = 64, 16
STEP = 0.05
MOVE_SECONDS = 10.0
REFRESH_SECONDS = 300.0
VOLATILE = ("freeBytes", "reservedBytes")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a GPU takes no new work: a few words, and what to do."""

    words: str
    cure: str


def status(seen: NodeFacts | Reason, xids: Mapping[int, int], before: NodeFacts | None = None) -> Manifest:
    """Return what this agent says of the node, but for times.

    *xids* has the last critical XID by GPU index.  Where NVML fails after it once answered, the GPUs of
    *before* stay in the report, all unfit for new work: without them the plan would trust the labels.
    """
    if isinstance(seen, Reason):
        facts = before or NodeFacts(())
        lapse = Fault(seen.code, "see the condition GPUsReadable")
        gpus = [_gpu(gpu, lapse, xids.get(gpu.index), None) for gpu in facts.gpus]
    else:
        facts = seen
        islands = nvlink_islands(seen.gpus)
        gpus = [
            _gpu(gpu, fault_of(gpu, xids.get(gpu.index)), xids.get(gpu.index), islands.get(gpu.index))
            for gpu in seen.gpus
        ]
    is_known = bool(gpus) or isinstance(seen, NodeFacts)
    slices = profile_counts(facts.gpus)
    told = {
        "conditions": [_condition(seen)],
        "gpus": gpus[:MAX_GPUS],
        "product": ", ".join(sorted({gpu["product"] for gpu in gpus if "product" in gpu}))[:256],
        "gpuCount": len(gpus) if is_known else None,
        "healthyCount": sum(gpu["healthy"] for gpu in gpus) if is_known else None,
        "freeMemory": _free_memory(facts.gpus),
        "driver": facts.driver,
        "cuda": facts.cuda,
        "migSlices": ", ".join(f"{count} x {profile}" for profile, count in slices.items())[:256],
    }
    return {key: value for key, value in told.items() if value not in ("", [], None)}


def parting(told: Manifest) -> Manifest:
    """Return the last report: faults stay true without the agent, free memory and the condition do not."""
    gpus = [{key: value for key, value in gpu.items() if key != "freeBytes"} for gpu in told.get("gpus", ())]
    row = {
        **told["conditions"][0],
        "status": "Unknown",
        "reason": "AgentStopped",
        "message": "the agent that reads GPUs was stopped; it says more when it runs again",
    }
    rest = {key: value for key, value in told.items() if key not in ("gpus", "freeMemory")}
    return {**rest, "conditions": [row], **({"gpus": gpus} if gpus else {})}


def manifest(node: str, told: Manifest, observed_at: str, since: str) -> Manifest:
    """Return the ModelNode with *told*; server-side apply drops what this agent said before and not now.

    *since* is when the condition last flipped.
    """
    conditions = [{**row, "lastTransitionTime": since} for row in told["conditions"]]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelNode",
        "metadata": {"name": node},
        "status": {**told, "conditions": conditions, "gpusObservedAt": observed_at},
    }


def is_due(before: Manifest | None, now: Manifest, *, seconds: float) -> bool:
    """Tell whether a report made *seconds* ago should be made again.

    At once when anything but an amount of free memory changed; for those when they moved by 5 % of a GPU,
    at most every 10 seconds; and every 5 minutes.  None: there was no report yet.
    """
    if before is None or seconds >= REFRESH_SECONDS or _steady(before) != _steady(now):
        return True
    pairs = zip(before.get("gpus", ()), now.get("gpus", ()), strict=True)
    return seconds >= MOVE_SECONDS and any(_has_moved(old, new) for old, new in pairs)


def fault_of(gpu: GpuFacts, xid: int | None) -> Fault | None:
    """Return why *gpu* takes no new work, the gravest first; None when nothing is wrong."""
    if gpu.lapse is Lapse.LOST:
        return Fault(f"lost{_because(xid)}", RESTART)
    if gpu.lapse is Lapse.RESET_REQUIRED:
        return Fault(f"reset required{_because(xid)}", RESET)
    if xid is not None:
        known = CRITICAL[xid]
        return Fault(f"XID {xid} ({known.meaning})", known.cure)
    if gpu.recovery:
        asked = RECOVERY.get(gpu.recovery)
        words = asked.meaning if asked else f"recovery action {gpu.recovery}"
        return Fault(f"the driver asks for {words}", asked.cure if asked else RESET)
    if gpu.rows and gpu.rows.has_failed:
        return Fault("ECC: no spare memory row left", REPLACE)
    if gpu.ecc_uncorrected:
        return Fault(f"ECC: {gpu.ecc_uncorrected} uncorrected memory errors", RESET)
    if gpu.rows and gpu.rows.is_pending:
        return Fault("ECC: memory rows wait to be remapped", RESET)
    return None


def product(name: str) -> str:
    """Return the name as GPU feature discovery 0.20 writes it to the label nvidia.com/gpu.product."""
    return name.replace(" ", "-")


def nvlink_islands(gpus: Iterable[GpuFacts]) -> dict[int, int]:
    """Return the island of each GPU that has an active link, by GPU index; islands count from 0.

    GPUs are joined when a path of active links leads from one to the other, through switches too.  Where
    MIG is on no slice may use a link.
    """
    linked = [gpu for gpu in gpus if gpu.peers and not gpu.has_mig and gpu.lapse is None]
    groups: list[set[str]] = []
    for gpu in linked:
        touching = [group for group in groups if group & {gpu.bus_id, *gpu.peers}]
        groups = [group for group in groups if group not in touching]
        groups.append({gpu.bus_id, *gpu.peers}.union(*touching))
    found: dict[int, int] = {}
    order: list[set[str]] = []
    for gpu in linked:
        group = next(group for group in groups if gpu.bus_id in group)
        if group not in order:
            order.append(group)
        found[gpu.index] = order.index(group)
    return found


def profile_counts(gpus: Iterable[GpuFacts]) -> dict[str, int]:
    """Return how many slices of each profile there are, by profile."""
    counts: dict[str, int] = {}
    for profile in sorted(piece.profile for gpu in gpus for piece in gpu.slices):
        counts[profile] = counts.get(profile, 0) + 1
    return counts


# --- underneath ----------------------------------------------------------------------------------


def _condition(seen: NodeFacts | Reason) -> dict[str, str]:
    if isinstance(seen, Reason):
        return {"type": CONDITION, "status": "False", "reason": seen.code, "message": seen.message}
    message = f"NVML answers for {len(seen.gpus)} GPUs"
    return {"type": CONDITION, "status": "True", "reason": "Read", "message": message}


def _gpu(gpu: GpuFacts, fault: Fault | None, xid: int | None, island: int | None) -> dict[str, Any]:
    told = {
        "index": gpu.index,
        "product": product(gpu.name) or None,
        "memoryBytes": gpu.memory_bytes,
        "freeBytes": None if gpu.lapse else gpu.free_bytes,
        "reservedBytes": gpu.reserved_bytes,
        "healthy": fault is None,
        "fault": fault and fault.words,
        "message": fault and f"GPU {gpu.index}: needs to be without fault, found {fault.words}; {fault.cure}",
        "xid": xid,
        "eccUncorrected": gpu.ecc_uncorrected,
        "remappedRows": gpu.rows.remapped if gpu.rows else None,
        "migEnabled": gpu.has_mig,
        "mig": [_slice(piece) for piece in gpu.slices[:MAX_SLICES]] or None,
        "sharing": "mps" if gpu.mps_processes else None,
        "nvlinkIsland": island,
    }
    return {key: value for key, value in told.items() if value is not None}


def _slice(piece: Slice) -> dict[str, Any]:
    told = {
        "profile": piece.profile,
        "memoryBytes": piece.memory_bytes,
        "freeBytes": piece.free_bytes,
    }
    return {key: value for key, value in told.items() if value is not None}


def _because(xid: int | None) -> str:
    return f", XID {xid} ({CRITICAL[xid].meaning})" if xid is not None else ""


def _free_memory(gpus: Iterable[GpuFacts]) -> str:
    told = [gpu.free_bytes for gpu in gpus if gpu.free_bytes is not None and gpu.lapse is None]
    return readable_bytes(sum(told)) if told else ""


def _steady(told: Any) -> Any:
    """Return the report without what moves all the time."""
    if isinstance(told, list):
        return [_steady(item) for item in told]
    if isinstance(told, dict):
        return {
            key: _steady(item) for key, item in told.items() if key not in VOLATILE and key != "freeMemory"
        }
    return told


def _has_moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    memory: int = new.get("memoryBytes", 0)
    return memory > 0 and abs(old.get("freeBytes", 0) - new.get("freeBytes", 0)) >= STEP * memory
