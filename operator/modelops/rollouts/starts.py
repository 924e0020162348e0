"""How a run begins: what is wanted, whether it may start, and what it takes the place of."""

import hashlib
from dataclasses import replace
from datetime import datetime

from modelops.plan import Event, Reason
from modelops.rollouts.clocks import is_settled
from modelops.rollouts.promotion import at_rest, moved
from modelops.rollouts.seen import Seen, Step
from modelops.rollouts.state import Phase, Revision, Rollout, rejects


def first(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Bring up the first version, or take over from a stable that is gone: there is nothing to protect."""
    if state.stable is not None and not _is_stable_lost(state, seen):
        return None
    if state.phase in (Phase.PROMOTING, Phase.BAKING):
        return None
    candidate = state.candidate
    if candidate is None or seen.desired is None or candidate.hash != seen.desired.hash:
        return None
    if seen.hold is not None or rejects(state, candidate.hash):
        return None
    if seen.candidate.ready == 0 or not is_settled(state, seen, now):
        return None
    message = f"{seen.service}: {candidate.version} serves"
    return Step(moved(state, candidate, now, "Serving", message), (Event("Normal", "Serving", message),))


def desire(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Follow the wanted revision: start, supersede, revert, or leave a rejected one alone."""
    desired = seen.desired
    if desired is None or state.phase in (Phase.SUPERSEDING, Phase.REVERTING, Phase.ROLLING_BACK):
        return None
    wanted_is_stable = state.stable is not None and desired.hash == state.stable.hash
    if wanted_is_stable:
        return _back_to_stable(state, seen, now)
    if state.candidate is not None and desired.hash == state.candidate.hash:
        return None
    if state.phase is Phase.PROMOTING or rejects(state, desired.hash):
        return None
    if state.candidate is None:
        return Step(started(state, desired, seen, now))
    if state.accepted or state.weight:
        message = f"{seen.service}: {desired.version} takes the place of {state.candidate.version}"
        state = replace(state, phase=Phase.SUPERSEDING, phase_at=now, weight=0, reason="Superseded")
        return Step(replace(state, message=message), (Event("Normal", "Superseded", message),))
    return Step(started(state, desired, seen, now))


def admit(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Wait for approval without pods; start when the gates open."""
    if state.candidate is None:
        return None
    hold = None if seen.waits_for_capacity else seen.hold
    if state.phase is Phase.STARTING and hold is not None:
        return Step(awaiting(state, hold, now))
    if state.phase is not Phase.AWAITING_APPROVAL:
        return None
    if hold is None:
        message = f"{seen.service}: {state.candidate.version} starts"
        state = replace(state, phase=Phase.STARTING, phase_at=now, reason="Starting", message=message)
        return Step(state, (Event("Normal", "Starting", message),))
    if hold.message != state.message:
        return Step(awaiting(state, hold, now))
    return None


def run_id(revision: Revision, attempt: int) -> str:
    """Return the name of a run: the same for the same revision and attempt, whoever computes it."""
    text = f"{revision.hash}/{revision.digest}/{attempt}"
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _is_stable_lost(state: Rollout, seen: Seen) -> bool:
    """Return whether stable has no ready pod, though it should."""
    return state.stable is not None and seen.stable.ready == 0 and seen.candidate.ready > 0


def _back_to_stable(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    if state.phase is Phase.ROLLED_BACK:
        return Step(at_rest(state, now, "Serving", f"{seen.service}: the served version is wanted again"))
    if state.candidate is None or state.phase in (Phase.PROMOTING, Phase.BAKING):
        return None
    message = f"{seen.service}: the served version is wanted again; {state.candidate.version} is withdrawn"
    state = replace(state, phase=Phase.REVERTING, phase_at=now, weight=0, paused_for=frozenset())
    state = replace(state, reason="Reverted", message=message)
    return Step(state, (Event("Normal", "Reverted", message),))


def started(state: Rollout, desired: Revision, seen: Seen, now: datetime) -> Rollout:
    state = replace(
        state,
        candidate=desired,
        previous=None,
        run_id=run_id(desired, state.attempt),
        phase=Phase.STARTING,
        phase_at=now,
        started_at=now,
        ready_at=None,
        unready_at=None,
        step=0,
        resumed=-1,
        is_overruled=False,
        step_at=None,
        weight=0,
        capacity=seen.rules.steps[0] if state.stable and seen.rules and seen.rules.steps else 100,
        judged_to=None,
        paused_for=frozenset(),
        frozen={},
        reason="Starting",
        message=f"{seen.service}: {desired.version} starts",
    )
    return awaiting(state, seen.desired_hold, now) if seen.desired_hold is not None else state


def awaiting(state: Rollout, hold: Reason, now: datetime) -> Rollout:
    phase_at = state.phase_at if state.phase is Phase.AWAITING_APPROVAL else now
    return replace(
        state, phase=Phase.AWAITING_APPROVAL, phase_at=phase_at, reason=hold.code, message=hold.message
    )
