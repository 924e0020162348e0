"""Show everything in a namespace: services, versions, and the sentences about what is not fine."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from modelops.cli import troubles
from modelops.cli.screen import BOLD, Screen, age
from modelops.cli.table import Column, table
from modelops.cli.troubles import condition, status

_SERVICES = (
    Column("NAMESPACE"),
    Column("SERVICE"),
    Column("READY"),
    Column("STABLE"),
    Column("CANDIDATE", is_optional=True),
    Column("WEIGHT", is_right=True, is_optional=True),
    Column("ROLLOUT", keep=8),
    Column("REASON", keep=6),
    Column("PODS", keep=5),
    Column("ON", keep=2, is_optional=True),
    Column("AGE", keep=4),
)
_VERSIONS = (
    Column("NAMESPACE"),
    Column("VERSION"),
    Column("MODEL", keep=5),
    Column("PHASE"),
    Column("APPROVALS", keep=8),
    Column("BY", keep=4, is_optional=True),
    Column("SIZE", keep=3),
    Column("NODES", keep=6, is_optional=True),
    Column("USED-BY", keep=5),
    Column("DIGEST", keep=2),
    Column("AGE", keep=4),
)
_NODES = (
    Column("NODE"),
    Column("PRODUCT", keep=7),
    Column("GPUS", is_right=True),
    Column("HEALTHY", is_right=True),
    Column("FREE", keep=8, is_right=True),
    Column("SLICES", keep=4, is_optional=True),
    Column("DRIVER", keep=3),
    Column("CUDA", keep=2),
)


def overview(
    services: Sequence[Mapping[str, Any]],
    versions: Sequence[Mapping[str, Any]],
    where: str,
    screen: Screen,
    now: datetime,
    *,
    is_everywhere: bool = False,
    nodes: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """Return the picture; *where* names the namespace, or says that these are all of them.

    Of the ModelNodes in *nodes* those are shown whose GPUs were looked at.
    """
    lines = [screen.paint(f"{where}: {_count(services, 'service')}, {_count(versions, 'version')}", BOLD)]
    skip = 0 if is_everywhere else 1
    if services:
        rows = [_service(obj, now)[skip:] for obj in services]
        lines += ["", *table(_SERVICES[skip:], rows, screen)]
    if versions:
        rows = [_version(obj, now)[skip:] for obj in versions]
        lines += ["", *table(_VERSIONS[skip:], rows, screen)]
    looked_at = [node for node in nodes if condition(node, "GPUsReadable")]
    if looked_at:
        lines += ["", *table(_NODES, [_node(node) for node in looked_at], screen)]
    found = troubles.of_all([*services, *versions]) + troubles.of_nodes(looked_at)
    return lines + listed(found, screen, is_empty=not services and not versions and not looked_at)


def listed(found: Sequence[troubles.Trouble], screen: Screen, *, is_empty: bool = False) -> list[str]:
    """Return the sentences under their headings."""
    lines: list[str] = []
    for heading, is_bad in (("not fine", True), ("under way", False)):
        some = [trouble for trouble in found if trouble.is_bad is is_bad]
        if some:
            lines += ["", screen.paint(heading, BOLD), *troubles.lines(some, screen)]
    return lines if lines or is_empty else ["", "everything is fine"]


def approvals(version: Mapping[str, Any]) -> list[str]:
    """Return have and needed by environment: prod 1/2."""
    rows = (status(version).get("approval") or {}).get("environments") or ()
    return [_quorum(row) for row in rows]


def short(digest: str | None) -> str:
    """Return the first 12 letters of a digest, enough to tell versions apart."""
    return digest.removeprefix("sha256:")[:12] if digest else "-"


def _quorum(row: Mapping[str, Any]) -> str:
    needed = row.get("needed", 0)
    if not needed:
        return f"{row['name']} {'none needed' if row.get('approved') else 'no'}"
    return f"{row['name']} {row.get('have', 0)}/{needed}"


def _service(obj: Mapping[str, Any], now: datetime) -> list[str]:
    meta, seen = obj["metadata"], status(obj)
    rollout, ready = seen.get("rollout") or {}, condition(obj, "Ready")
    candidate = (seen.get("candidate") or {}).get("version")
    weight = (rollout.get("traffic") or {}).get("observed")
    return [
        meta["namespace"],
        meta["name"],
        ready.get("status", "Unknown"),
        (seen.get("stable") or {}).get("version", "-"),
        candidate or "-",
        f"{weight or 0}%" if candidate else "-",
        rollout.get("phase", "-"),
        _reason(obj),
        seen.get("pods", "-"),
        seen.get("accelerator", "-"),
        age(meta.get("creationTimestamp"), now),
    ]


def _node(obj: Mapping[str, Any]) -> list[str]:
    seen = status(obj)
    keys = ("product", "gpuCount", "healthyCount", "freeMemory", "migSlices", "driver", "cuda")
    return [obj["metadata"]["name"], *(str(seen.get(key, "-")) for key in keys)]


def _reason(obj: Mapping[str, Any]) -> str:
    """Return why it is not ready, else why its rollout waits, else why it is ready."""
    ready, rollout = condition(obj, "Ready"), condition(obj, "RolloutHealthy")
    if ready.get("status") == "True" and rollout.get("status", "True") != "True":
        return str(rollout.get("reason", "-"))
    return str(ready.get("reason", "-"))


def _version(obj: Mapping[str, Any], now: datetime) -> list[str]:
    meta, seen = obj["metadata"], status(obj)
    rows = (seen.get("approval") or {}).get("environments") or ()
    approvers = sorted({who for row in rows for who in row.get("approvers") or ()})
    nodes = (seen.get("cache") or {}).get("nodes") or ()
    ready = sum(node.get("phase") == "Ready" for node in nodes)
    return [
        meta["namespace"],
        meta["name"],
        (obj.get("spec") or {}).get("modelRef", "-"),
        seen.get("phase", "-"),
        ", ".join(approvals(obj)) or "-",
        ", ".join(approvers) or "-",
        seen.get("size", "-"),
        f"{ready}/{len(nodes)} ready" if nodes else "-",
        ", ".join(sorted(user["name"] for user in seen.get("usedBy") or ())) or "-",
        short(seen.get("artifactDigest")),
        age(meta.get("creationTimestamp"), now),
    ]


def _count(objects: Sequence[object], noun: str) -> str:
    return f"{len(objects) or 'no'} {noun}{'' if len(objects) == 1 else 's'}"
