"""What a placement is once it is decided, and how it is kept in status."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from modelops.engines.base import Ask, Footprint, Gpu
from modelops.placement.devices import GPU_RESOURCE
from modelops.placement.memory import Verdict
from modelops.plan import Manifest, Reason


@dataclass(frozen=True, slots=True)
class Rejected:
    """A node that was looked at and not taken."""

    node: str
    product: str
    """Empty: no GPU, or an unknown one."""
    reason: Reason


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one pod of a revision should run, and with what limits.

    Law: ``from_status(placement.to_status())`` is the same placement.
    """

    node: str
    product: str
    """The node's label, verbatim; empty on CPUs and on GPUs that nobody describes."""
    gpus: int
    gpu_memory_bytes: int
    context_tokens: int | None
    """None: nothing was reckoned, the engine takes the model's own."""
    max_concurrency: int | None
    verdict: Verdict
    footprint: Footprint | None
    message: str
    rejected: tuple[Rejected, ...] = ()
    capability: tuple[int, int] | None = None
    driver_major: int | None = None
    shares: int = 1
    is_time_sliced: bool = False
    engine: str = ""
    """Which engine was chosen and why; empty: the service names it."""
    resource: str = GPU_RESOURCE
    """What a pod asks the node for."""
    nodes: int = 1
    """Pods of one replica; each has ``gpus``."""
    members: tuple[str, ...] = ()
    """Nodes of the pods that do not lead."""
    basis: str = ""
    """Digest of what the overhead depends on; empty: the engine does not tell what it measured."""

    @property
    def gpu(self) -> Gpu | None:
        """The kind of GPU that was chosen; None on CPUs and for unknown ones."""
        if not self.product:
            return None
        return Gpu(
            self.product,
            self.gpu_memory_bytes,
            self.capability,
            self.driver_major,
            self.shares,
            self.is_time_sliced,
        )

    def fill(self, ask: Ask) -> Ask:
        """Return *ask* with the limits and GPUs of this placement."""
        return replace(
            ask,
            context_tokens=self.context_tokens or ask.context_tokens,
            max_concurrency=self.max_concurrency or ask.max_concurrency,
            gpus=self.gpus,
            gpu=self.gpu,
            stages=self.nodes,
        )

    def to_status(self) -> Manifest:
        """Return ``status.placement.plan``; what is unknown or ordinary is left out."""
        status: Manifest = {
            "engine": self.engine,
            "node": self.node,
            "product": self.product,
            "gpus": self.gpus,
            "gpuMemoryBytes": self.gpu_memory_bytes,
            "contextTokens": self.context_tokens,
            "maxConcurrency": self.max_concurrency,
            "verdict": str(self.verdict),
            "message": self.message,
            "computeCapability": ".".join(map(str, self.capability)) if self.capability else None,
            "driverMajor": self.driver_major,
            "shares": self.shares if self.shares > 1 else None,
            "timeSliced": self.is_time_sliced or None,
            "resource": self.resource if self.resource != GPU_RESOURCE else None,
            "nodes": self.nodes if self.nodes > 1 else None,
            "members": list(self.members),
            "basis": self.basis,
            "footprint": _footprint_status(self.footprint) if self.footprint else None,
            "rejected": [_rejected_status(rejected) for rejected in self.rejected],
        }
        return {key: value for key, value in status.items() if value not in (None, "", [])}

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> "Placement":
        """Return the placement that ``to_status`` wrote."""
        capability = status.get("computeCapability")
        footprint = status.get("footprint")
        major, _, minor = (capability or "").partition(".")
        return cls(
            node=status["node"],
            product=status.get("product", ""),
            gpus=status["gpus"],
            gpu_memory_bytes=status["gpuMemoryBytes"],
            context_tokens=status.get("contextTokens"),
            max_concurrency=status.get("maxConcurrency"),
            verdict=Verdict(status["verdict"]),
            footprint=_read_footprint(footprint) if footprint else None,
            message=status.get("message", ""),
            rejected=tuple(_read_rejected(row) for row in status.get("rejected", ())),
            capability=(int(major), int(minor)) if capability else None,
            driver_major=status.get("driverMajor"),
            shares=status.get("shares", 1),
            is_time_sliced=status.get("timeSliced", False),
            engine=status.get("engine", ""),
            resource=status.get("resource", GPU_RESOURCE),
            nodes=status.get("nodes", 1),
            members=tuple(status.get("members", ())),
            basis=status.get("basis", ""),
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """No place.  NeverFits: no node could ever hold it; WaitingForCapacity: one could, not now."""

    reason: Reason
    rejected: tuple[Rejected, ...] = ()

    def to_status(self) -> Manifest:
        """Return ``status.placement.plan``: the verdict no, why, and every node that was looked at."""
        status: Manifest = {
            "verdict": str(Verdict.NO),
            "reason": self.reason.code,
            "message": self.reason.message,
        }
        if self.rejected:
            status["rejected"] = [_rejected_status(rejected) for rejected in self.rejected]
        return status


def _rejected_status(rejected: Rejected) -> Manifest:
    status = {
        "node": rejected.node,
        "product": rejected.product,
        "reason": rejected.reason.code,
        "message": rejected.reason.message,
    }
    return {key: value for key, value in status.items() if value}


def _read_rejected(row: Mapping[str, Any]) -> Rejected:
    reason = Reason(row.get("reason", ""), row.get("message", ""))
    return Rejected(row["node"], row.get("product", ""), reason)


FOOTPRINT_KEYS = {
    "weightsBytesPerGpu": "weights_bytes_per_gpu",
    "kvBytesPerToken": "kv_bytes_per_token",
    "kvBytesOneRequest": "kv_bytes_one_request",
    "kvBytesRequired": "kv_bytes_required",
    "overheadLowBytes": "overhead_low_bytes",
    "overheadHighBytes": "overhead_high_bytes",
    "contextTokens": "context_tokens",
    "maxConcurrency": "max_concurrency",
    "memoryPercent": "memory_percent",
}


def _footprint_status(footprint: Footprint) -> Manifest:
    told: Manifest = {key: getattr(footprint, name) for key, name in FOOTPRINT_KEYS.items()}
    return told | ({"correction": footprint.correction} if footprint.correction else {})


def _read_footprint(status: Mapping[str, Any]) -> Footprint:
    numbers = {name: status[key] for key, name in FOOTPRINT_KEYS.items()}
    return Footprint(**numbers, correction=status.get("correction", ""))
