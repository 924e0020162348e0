"""Whether an engine's footprint fits a GPU: usable memory, the overhead band, a verdict."""

from dataclasses import dataclass
from enum import StrEnum

from modelops.api.quantities import readable_bytes
from modelops.engines.base import Footprint

RESERVE_PERCENT = 1
"""What the driver keeps of the memory that the label tells.  Source: research/engines.md 4.6."""


class Verdict(StrEnum):
    """What the arithmetic says."""

    FITS = "fits"
    """Even with the most overhead that was published."""
    RISKY = "risky"
    """Only with the least."""
    NO = "no"
    UNKNOWN = "unknown"
    """Nothing was reckoned: what the engine or the model needs is not known."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is left for the cache on each GPU; may be negative."""

    verdict: Verdict
    usable_bytes: int
    kv_low_bytes: int
    """With the most overhead."""
    kv_high_bytes: int
    """With the least."""


def usable_bytes(memory_bytes: int) -> int:
    """Return what of a GPU's memory an engine can have."""
    return memory_bytes * (100 - RESERVE_PERCENT) // 100


def judge(footprint: Footprint, memory_bytes: int) -> Room:
    """Return the verdict on one GPU of *memory_bytes*.

    Law: for one footprint, more memory never makes the verdict worse.
    """
    usable = usable_bytes(memory_bytes)
    budget = usable * footprint.memory_percent // 100 - footprint.weights_bytes_per_gpu
    low = budget - footprint.overhead_high_bytes
    high = budget - footprint.overhead_low_bytes
    if low >= footprint.kv_bytes_required:
        verdict = Verdict.FITS
    elif high >= footprint.kv_bytes_required:
        verdict = Verdict.RISKY
    else:
        verdict = Verdict.NO
    return Room(verdict, usable, low, high)


def needed_bytes(footprint: Footprint) -> int:
    """Return the usable memory with which the footprint just fits."""
    total = footprint.weights_bytes_per_gpu + footprint.overhead_high_bytes + footprint.kv_bytes_required
    return -(-total * 100 // footprint.memory_percent)


def parts(footprint: Footprint) -> str:
    """Return what the memory is needed for, in words."""
    return (
        f"weights {readable_bytes(footprint.weights_bytes_per_gpu)}, "
        f"cache {readable_bytes(footprint.kv_bytes_required)}, "
        f"overhead {readable_bytes(footprint.overhead_low_bytes)} to "
        f"{readable_bytes(footprint.overhead_high_bytes)}{' as measured' if footprint.correction else ''}"
    )
