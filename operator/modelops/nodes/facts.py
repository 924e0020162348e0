"""What is read of the GPUs of one node, before anybody judges it."""

from dataclasses import dataclass
from enum import StrEnum


class Lapse(StrEnum):
    """Why a GPU does not answer."""

    LOST = "lost"
    RESET_REQUIRED = "reset required"


@dataclass(frozen=True, slots=True)
class Slice:
    """One MIG slice; amounts in bytes, None where the GPU does not tell."""

    profile: str
    memory_bytes: int | None = None
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """What became of memory rows that went bad (Ampere and newer), or of pages (before)."""

    remapped: int = 0
    is_pending: bool = False
    """Whether a reset of the GPU is needed before the bad rows are replaced."""
    has_failed: bool = False
    """Whether no spare row was left."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU; None means that it does not tell, as consumer boards and old drivers do."""

    index: int
    bus_id: str = ""
    """PCI address, by which the links of other GPUs name it."""
    name: str = ""
    """As the driver writes it; empty: it never answered."""
    memory_bytes: int | None = None
    """With the driver's reserve."""
    reserved_bytes: int | None = None
    free_bytes: int | None = None
    has_mig: bool | None = None
    """Whether MIG is on; None: it has none."""
    slices: tuple[Slice, ...] = ()
    mps_processes: int = 0
    peers: frozenset[str] = frozenset()
    """PCI addresses of GPUs and switches at the other end of active links."""
    ecc_uncorrected: int | None = None
    """Since the driver was loaded."""
    rows: Rows | None = None
    recovery: int = 0
    """What the driver asks for: NVML_GPU_RECOVERY_ACTION, 0 is none."""
    lapse: Lapse | None = None
    """Set: all else is what it said before."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """All GPUs of a node, by index."""

    gpus: tuple[GpuFacts, ...]
    driver: str = ""
    cuda: str = ""
    """Newest CUDA version that the driver supports, such as 13.0."""


@dataclass(frozen=True, slots=True)
class Xid:
    """One error that the driver told while we listened; *index* None: of an unknown GPU."""

    index: int | None
    number: int
