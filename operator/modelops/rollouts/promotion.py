"""The way to 100 %: promote, move the stable pointer, let the old version go."""

from dataclasses import replace
from datetime import datetime, timedelta

from modelops.plan import Event
from modelops.rollouts.clocks import left
from modelops.rollouts.rules import NO_POLICY
from modelops.rollouts.seen import Seen, Step
from modelops.rollouts.state import KEEP_REJECTED, Phase, Revision, Rollout


def promote(state: Rollout, reason: str, message: str, now: datetime) -> Step:
    state = replace(state, phase=Phase.PROMOTING, phase_at=now, capacity=100, paused_for=frozenset())
    return Step(replace(state, reason=reason, message=message), (Event("Normal", reason, message),))


def take_over(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Move the stable pointer when the accepted route sends everything to the candidate."""
    if state.phase is not Phase.PROMOTING or state.candidate is None:
        return None
    if seen.candidate.ready < max(1, seen.candidate.wanted):
        return None
    if state.weight != 100:
        return Step(replace(state, weight=100))
    if state.accepted != 100:
        return None
    return Step(moved(state, state.candidate, now, state.reason, state.message))


def bake(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Let the version that served before go, once the new one is accepted and the delay is over."""
    if state.phase is not Phase.BAKING:
        return None
    rules = seen.rules or NO_POLICY
    is_served = state.stable is not None and seen.route.stable_hash == state.stable.hash
    if not is_served or left(state.phase_at, rules.scale_down_delay, now) > timedelta(0):
        return None
    return Step(at_rest(state, now, state.reason, state.message))


def moved(state: Rollout, to: Revision, now: datetime, reason: str, message: str) -> Rollout:
    """Move the stable pointer: one write, no restart."""
    promoted = (*(h for h in state.promoted if h != to.hash), to.hash)[-KEEP_REJECTED:]
    phase = Phase.BAKING if state.stable is not None and state.stable.hash != to.hash else Phase.STABLE
    return replace(
        state,
        stable=to,
        previous=state.stable if phase is Phase.BAKING else None,
        candidate=None,
        phase=phase,
        phase_at=now,
        weight=0,
        capacity=0,
        step=0,
        step_at=None,
        unready_at=None,
        paused_for=frozenset(),
        promoted=promoted,
        reason=reason,
        message=message,
    )


def at_rest(state: Rollout, now: datetime, reason: str, message: str) -> Rollout:
    return replace(
        state,
        phase=Phase.STABLE,
        phase_at=now,
        candidate=None,
        previous=None,
        weight=0,
        capacity=0,
        step=0,
        step_at=None,
        unready_at=None,
        paused_for=frozenset(),
        frozen={},
        reason=reason,
        message=message,
    )
