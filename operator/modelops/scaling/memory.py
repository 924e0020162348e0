"""What scaling remembers between two looks: `.status.scaling`, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelops.plan import Manifest

KEEP = 10
LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the number of pods."""

    at: datetime
    before: int
    after: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Memory:
    """The number in force, since when and why, and how it came to be."""

    replicas: int | None = None
    """None: never decided."""
    code: str = ""
    message: str = ""
    since: datetime | None = None
    history: tuple[Change, ...] = ()
    """The last ten changes, oldest first."""

    def to_status(self) -> Manifest:
        """Return the memory as plain data; law: ``Memory.read(memory.to_status()) == memory``."""
        out: Manifest = {
            "replicas": self.replicas,
            "reason": self.code,
            "message": self.message,
            "since": _print(self.since) if self.since else None,
            "history": [
                {
                    "at": _print(change.at),
                    "from": change.before,
                    "to": change.after,
                    "reason": change.code,
                    "message": change.message,
                }
                for change in self.history
            ],
        }
        return {key: value for key, value in out.items() if value not in (None, "", [])}

    @classmethod
    def read(cls, status: Mapping[str, Any]) -> "Memory":
        """Return the memory that a status holds; an empty one is of a service that never scaled."""
        return cls(
            replicas=status.get("replicas"),
            code=status.get("reason", ""),
            message=status.get("message", ""),
            since=datetime.fromisoformat(status["since"]) if "since" in status else None,
            history=tuple(
                Change(
                    datetime.fromisoformat(row["at"]),
                    row.get("from", 0),
                    row.get("to", 0),
                    row.get("reason", ""),
                    row.get("message", ""),
                )
                for row in status.get("history", ())
            ),
        )


def _print(instant: datetime) -> str:
    """Print with microseconds: a rate must not count a change twice for a lost fraction."""
    return instant.isoformat().replace("+00:00", "Z")
