"""What the hub can be told to do wrong."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any


@dataclass(slots=True)
class Fault:
    """One fault; it acts on ``times`` requests whose path matches, and then is gone."""

    path: str = "*"
    """Pattern over the request's path."""
    times: int = 1
    status: int | None = None
    """Answer this status and nothing else."""
    cut_after_bytes: int | None = None
    """Send so many bytes of the body, then close the connection."""
    wrong_byte_at: int | None = None
    """Turn over the byte at this place of the file."""
    bytes_per_second: int | None = None
    """Send no faster."""
    extra_bytes: int = 0
    """Announce and send a body longer (or, below zero, shorter) than the file."""
    location: str | None = None
    """Redirect there."""


class Faults:
    """All faults in force."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, wanted: dict[str, Any]) -> None:
        """Add one from JSON in camelCase."""
        names = {
            "path": "path", "times": "times", "status": "status", "cutAfterBytes": "cut_after_bytes",
            "wrongByteAt": "wrong_byte_at", "bytesPerSecond": "bytes_per_second",
            "extraBytes": "extra_bytes", "location": "location",
        }  # fmt: skip
        self._faults.append(Fault(**{names[key]: value for key, value in wanted.items()}))

    def clear(self) -> None:
        """Do everything right again."""
        self._faults.clear()

    def take(self, path: str) -> Fault:
        """Return the first fault for *path* and count it; a fault without effect when there is none."""
        for fault in self._faults:
            if fnmatchcase(path, fault.path):
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault
        return Fault()
