"""Advance a rollout by what is seen: pure, one transition at a time, safe to repeat."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from modelops.rollouts.actions import act
from modelops.rollouts.clocks import after
from modelops.rollouts.pauses import pauses
from modelops.rollouts.promotion import bake, take_over
from modelops.rollouts.retreat import harm, unwind
from modelops.rollouts.seen import Seen, Step
from modelops.rollouts.starts import admit, desire, first
from modelops.rollouts.state import Phase, Rollout
from modelops.rollouts.steps import climb


def advance(state: Rollout, seen: Seen, now: datetime) -> Step:
    """Return the next state; the same one when nothing that matters happened.

    Laws: a weight is raised by one step at a time and only onto ready pods; a missing word of the judge
    neither raises nor rolls back; ``stable`` is never undefined once it was defined; advancing again from
    the result with the same *seen* and *now* comes to rest.
    """
    state = _observed(state, seen, now)
    for move in _MOVES:
        step = move(state, seen, now)
        if step is not None:
            return step
    return Step(state, after=after(state, seen, now))


def _observed(state: Rollout, seen: Seen, now: datetime) -> Rollout:
    """Record what was seen: the accepted weight, readiness and its clocks."""
    accepted = seen.route.candidate_weight
    step_at, unaccepted_at = state.step_at, None
    if state.phase in (Phase.PROGRESSING, Phase.PAUSED):
        if accepted == state.weight and state.weight > 0:
            step_at = step_at or now
        elif accepted != state.weight and seen.candidate.ready > 0:
            unaccepted_at = state.unaccepted_at or now
    ready_at, unready_at = _readiness(state, seen, now)
    return replace(
        state,
        accepted=accepted,
        step_at=step_at,
        ready_at=ready_at,
        unready_at=unready_at,
        unaccepted_at=unaccepted_at,
    )


def _readiness(state: Rollout, seen: Seen, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return since when the candidate is ready in this run, and since when it lacks pods it could have."""
    if state.candidate is None or seen.candidate.wanted <= 0:
        return state.ready_at, state.unready_at
    if state.phase is Phase.AWAITING_APPROVAL:
        return None, None  # nobody's time runs while people decide
    if seen.candidate.ready >= seen.candidate.wanted:
        return state.ready_at or now, None
    ready_at = None if state.phase is Phase.STARTING else state.ready_at
    return ready_at, None if seen.waits_for_capacity else state.unready_at or now


_MOVES: tuple[Callable[[Rollout, Seen, datetime], Step | None], ...] = (
    act,
    first,
    desire,
    harm,
    unwind,
    bake,
    take_over,
    admit,
    pauses,
    climb,
)
"""Harm stands before holds, so that a closed gate never stops a rollback."""
