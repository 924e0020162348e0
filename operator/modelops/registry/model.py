"""Decide what one Model shows: its versions by phase, the newest, the approved one, and who uses it."""

from collections import Counter
from datetime import datetime
from typing import Any

from modelops.api.version import Lifecycle
from modelops.plan import Claim, Plan, conditions
from modelops.registry.snapshot import ModelSnapshot

IN_USE = (None, Lifecycle.ACTIVE, Lifecycle.DEPRECATED)


def plan(seen: ModelSnapshot, now: datetime) -> Plan:
    """Return the status of the model; a Model has no children."""
    versions = sorted(seen.versions, key=lambda v: (v.metadata.creation_timestamp or now, v.name))
    phases = Counter(v.status.phase or "Resolving" for v in versions if v.status)
    approved = [v.name for v in versions if v.name in seen.approved and v.spec.lifecycle in IN_USE]
    known = {v.name for v in versions}
    aliases = seen.model.spec.aliases or {}
    dangling = sorted(alias for alias, version in aliases.items() if version not in known)
    generation = seen.model.metadata.generation
    if dangling:
        alias = dangling[0]
        ready = Claim(
            "Ready",
            False,
            "AliasDangling",
            f"{seen.model.name}: alias {alias} needs version {aliases[alias]}, found none of that name; "
            "create it or move the alias",
        )
    else:
        ready = Claim("Ready", True, "Ready", f"{seen.model.name}: {len(versions)} versions")
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "versions": {"total": len(versions), **{p[0].lower() + p[1:]: n for p, n in sorted(phases.items())}},
        "inUse": seen.users,
        "conditions": conditions((ready,), seen.status.get("conditions", ()), generation, now),
    }
    if versions:
        status["latest"] = versions[-1].name
    if approved:
        status["latestApproved"] = approved[-1]
    resolved = {alias: version for alias, version in sorted(aliases.items()) if version in known}
    if resolved:
        status["aliases"] = resolved
    return Plan(status=status)
