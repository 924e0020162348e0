"""What a node says about its store, and when it says so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelops.api import names
from modelops.delivery.cache import Disk
from modelops.plan import Manifest

MAX_ARTIFACTS = 500
MAX_MESSAGE = 1024
STEP = 0.05
STEP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Artifact:
    """How far one artifact is."""

    digest: str
    namespace: str
    version: str
    phase: str
    """Fetching, Ready or Failed."""
    bytes: int = 0
    total_bytes: int = 0
    message: str = ""
    verified_at: str = ""


def is_due(before: Mapping[str, Artifact] | None, now: Mapping[str, Artifact], *, seconds: float) -> bool:
    """Tell whether a report made *seconds* ago should be made again.

    At once when a phase, a message or the list changed; for mere progress after 5 % of the bytes
    or 5 seconds.  None: there was no report yet.
    """
    if before is None or set(before) != set(now):
        return True
    pairs = [(before[digest], artifact) for digest, artifact in now.items()]
    if any((old.phase, old.message) != (new.phase, new.message) for old, new in pairs):
        return True
    grown = [(new.bytes - old.bytes, new.total_bytes) for old, new in pairs if new != old]
    return bool(grown) and (
        seconds >= STEP_SECONDS or any(step >= STEP * total for step, total in grown if total)
    )


def manifest(node: str, artifacts: Iterable[Artifact], disk: Disk, now: str) -> Manifest:
    """Return the ModelNode with all that this agent says of it; server-side apply drops the rest."""
    order = {"Fetching": 0, "Failed": 1, "Ready": 2}
    rows = sorted(artifacts, key=lambda artifact: (order[artifact.phase], artifact.digest))
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelNode",
        "metadata": {"name": node},
        "status": {
            "cache": [_row(artifact) for artifact in rows[:MAX_ARTIFACTS]],
            "disk": {
                "totalBytes": disk.total_bytes,
                "freeBytes": disk.free_bytes,
                "storeBytes": sum(artifact.bytes for artifact in rows),
            },
            "observedAt": now,
        },
    }


def _row(artifact: Artifact) -> dict[str, Any]:
    row: dict[str, Any] = {
        "digest": artifact.digest,
        "namespace": artifact.namespace,
        "version": artifact.version,
        "phase": artifact.phase,
        "bytes": artifact.bytes,
    }
    if artifact.total_bytes:
        row["totalBytes"] = artifact.total_bytes
    if artifact.message:
        row["message"] = artifact.message[:MAX_MESSAGE]
    if artifact.verified_at:
        row["verifiedAt"] = artifact.verified_at
    return row
