"""Advance a rollout by what is seen: pure, one transition at a time, safe to repeat."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from modelops.plan import Event
from modelops.rollouts.actions import act
from modelops.rollouts.capacity import sized
from modelops.rollouts.clocks import after
from modelops.rollouts.pauses import conclude, pauses
from modelops.rollouts.promotion import bake, take_over
from modelops.rollouts.retreat import harm, unwind
from modelops.rollouts.seen import Seen, Step, agrees
from modelops.rollouts.starts import admit, desire, first
from modelops.rollouts.state import KEEP_SPANS, Phase, Rollout, Room, Span
from modelops.rollouts.steps import climb
from modelops.rollouts.traffic import asked_weight
from modelops.rollouts.verified import checked, trusted

_MOVES: tuple[Callable[[Rollout, Seen, datetime], Step | None], ...] = (
    act,
    first,
    desire,
    harm,
    unwind,
    bake,
    take_over,
    admit,
    conclude,
    pauses,
    climb,
)
"""Harm stands before holds, so that a closed gate never stops a rollback."""
DECIDED = frozenset(
    {"Serving", "Promoted", "PromotedByPerson", "RolledBack", "Aborted", "Superseded", "Reverted"}
)
"""Events that tell how a run is decided; each is timed once."""


def advance(state: Rollout, seen: Seen, now: datetime) -> Step:
    """Return the next state; the same one when nothing that matters happened.

    Laws: a weight is raised by one step at a time and only onto ready pods; a missing word of the judge
    neither raises nor rolls back; ``stable`` is never undefined once it was defined; advancing again from
    the result with the same *seen* and *now* comes to rest.
    """
    observed, seen, trust = trusted(state, seen, now)
    drift, observed = _drift(state, seen), _observed(observed, seen, now)
    observed, strayed = checked(observed, seen)
    for move in _MOVES:
        step = move(observed, seen, now)
        if step is not None:
            break
    else:
        step = Step(observed, after=after(observed, seen, now))
    told = tuple(_timed(event, state, now) for event in step.events)
    events = (*trust, *drift, *strayed, *told)
    return replace(step, state=_noted(state, step.state, seen, now), events=events)


# --- what was seen -----------------------------------------------------------------------------------


def _observed(state: Rollout, seen: Seen, now: datetime) -> Rollout:
    """Record what was seen: the step of the policy, the accepted weight, readiness and their clocks."""
    state = replace(_stepped(state, seen), accepted=seen.route.candidate_weight)
    state = _accepted(state, seen, now) if state.is_at_step else replace(state, unaccepted_at=None)
    return _readied(state, seen, now)


def _stepped(state: Rollout, seen: Seen) -> Rollout:
    """Keep the weight when the policy's steps change: the run goes on at the first step above it."""
    rules = seen.rules
    if rules is None or not state.is_at_step or rules.stage(state.step).weight == state.weight:
        return state
    below = [i for i, stage in enumerate(rules.steps) if stage.weight <= state.weight]
    return replace(state, step=below[-1] if below else -1)


def _accepted(state: Rollout, seen: Seen, now: datetime) -> Rollout:
    """Run the step's clock only while the route does what the step asks."""
    if agrees(state, seen.route):
        state = replace(state, unaccepted_at=None)
        return state if state.step_at else _begun(state, seen, now)
    step_at = state.step_at if seen.route.candidate_weight is None else None
    since = (state.unaccepted_at or now) if seen.candidate.ready else None
    return replace(state, step_at=step_at, unaccepted_at=since)


def _begun(state: Rollout, seen: Seen, now: datetime) -> Rollout:
    """Begin the step's clock, and let pods go that its weight no longer needs."""
    state = replace(state, step_at=now)
    if seen.rules is None:
        return state
    stage = replace(seen.rules.stage(state.step), weight=state.weight, mirror=state.mirror)
    state = sized(state, stage)
    shrinks = state.room in (Room.DYNAMIC_STABLE, Room.SPLIT)
    return replace(state, stable_capacity=100 - state.weight) if shrinks else state


def _readied(state: Rollout, seen: Seen, now: datetime) -> Rollout:
    """Note since when the candidate is ready in this run, and since when it lacks pods, and why."""
    pods = seen.candidate
    if state.candidate is None or pods.wanted <= 0:
        return state
    if state.is_before_start:
        return replace(state, ready_at=None, unready_at=None, waiting_at=None)  # people decide: no clock runs
    if pods.ready >= pods.wanted:
        return replace(state, ready_at=state.ready_at or now, unready_at=None, waiting_at=None)
    ready_at = None if state.phase is Phase.STARTING else state.ready_at
    if seen.waits_for_capacity or pods.without_room:
        return replace(state, ready_at=ready_at, unready_at=None, waiting_at=state.waiting_at or now)
    return replace(state, ready_at=ready_at, unready_at=state.unready_at or now, waiting_at=None)


def _drift(state: Rollout, seen: Seen) -> tuple[Event, ...]:
    """Tell that somebody changed the weight of a step by hand; the next write repairs it."""
    found, wanted = seen.route.candidate_weight, state.asked
    if not state.is_at_step or state.step_at is None or found is None or wanted in (None, found):
        return ()
    message = f"{seen.service}: needs weight {wanted} on its route, found {found}; set back"
    return (Event("Warning", "WeightDrift", message),)


def _timed(event: Event, state: Rollout, now: datetime) -> Event:
    """Return *event* with how long the run lasted, where it says how the run is decided."""
    if event.reason not in DECIDED or state.started_at is None:
        return event
    return replace(event, lasted=now - state.started_at)


# --- what is kept of it ------------------------------------------------------------------------------


def _noted(before: Rollout, state: Rollout, seen: Seen, now: datetime) -> Rollout:
    """Note what this pass asks of the route, each wait by a number, and when the run stood still."""
    asked = asked_weight(state, candidate_ready=seen.candidate.ready) if state.candidate else None
    state = replace(state, asked=asked)
    is_same_run = before.run_id == state.run_id
    known = before.paused_for if is_same_run else frozenset()
    was_waiting = is_same_run and before.phase is Phase.AWAITING_APPROVAL and before.awaits is state.awaits
    is_waiting = state.phase is Phase.AWAITING_APPROVAL and not was_waiting
    if is_waiting or state.paused_for - known:
        state = replace(state, wait=state.wait + 1)
    if state.is_still:
        return replace(state, paused_at=state.paused_at or now)
    if state.paused_at is None:
        return state
    return replace(state, paused_at=None, pauses=_joined((*state.pauses, Span(state.paused_at, now))))


def _joined(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """Return at most KEEP_SPANS: the two with the least time between them become one."""
    if len(spans) <= KEEP_SPANS:
        return spans
    gaps = [later.start - earlier.end for earlier, later in pairwise(spans)]
    i = gaps.index(min(gaps))
    return (*spans[:i], Span(spans[i].start, spans[i + 1].end), *spans[i + 2 :])
