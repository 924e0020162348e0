"""Decide what one RolloutPolicy shows: whether it can be used, and by how many services it is."""

from datetime import datetime

from modelops.plan import Claim, Plan, conditions
from modelops.registry.snapshot import PolicySnapshot


def plan(seen: PolicySnapshot, now: datetime) -> Plan:
    """Return the status of the policy; it has no children."""
    name = seen.policy.name
    if seen.fault:
        ready = Claim("Ready", False, "Malformed", f"{name}: {seen.fault}")
    else:
        ready = Claim("Ready", True, "Ready", f"{name}: can be used")
    generation = seen.policy.metadata.generation
    steps = [] if seen.fault else list(seen.policy.spec.in_force().steps)
    return Plan(
        status={
            **({"steps": steps} if steps else {}),
            "observedGeneration": generation,
            "strategy": str(seen.policy.spec.strategy or "Canary"),
            "usedByCount": seen.users,
            "conditions": conditions((ready,), seen.status.get("conditions", ()), generation, now),
        }
    )
