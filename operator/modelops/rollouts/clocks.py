"""Which clock of a run is over, and which one runs out next.

All clocks are instants in status, never timers: they run on while no operator does.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from modelops.rollouts.rules import NO_POLICY, Rules
from modelops.rollouts.seen import Seen
from modelops.rollouts.state import Phase, Rollout

ZERO = timedelta(0)


def left(since: datetime | None, span: timedelta, now: datetime) -> timedelta:
    """Return what is left of *span*; all of it when the clock has not begun."""
    return span if since is None else since + span - now


def is_settled(state: Rollout, seen: Seen, now: datetime) -> bool:
    """Return whether the candidate was ready for long enough to get a request."""
    rules = seen.rules or NO_POLICY
    if seen.candidate.ready < max(1, seen.candidate.wanted) or state.ready_at is None:
        return False
    return left(state.ready_at, rules.min_ready, now) <= ZERO


def after(state: Rollout, seen: Seen, now: datetime) -> timedelta | None:
    """Return when a clock of this state runs out; None: nothing is timed."""
    rules = seen.rules or NO_POLICY
    future = [end for end in _ends(state, seen, rules, now) if end > ZERO]
    return min(future) if future else None


def _ends(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Iterable[timedelta]:
    if state.phase is Phase.STARTING and state.ready_at is not None:
        yield left(state.ready_at, rules.min_ready, now)
        yield left(state.ready_at, rules.warmup, now)
    if state.is_at_step and state.step_at is not None:
        stage = rules.stage(state.step)
        yield left(state.step_at, stage.pause, now)
        if state.phase is Phase.PROGRESSING:
            yield left(state.step_at, stage.dwell, now)
        if seen.metrics_away_since is not None:
            yield left(seen.metrics_away_since, rules.metrics_away_after, now)
    if state.phase is Phase.BAKING:
        yield left(state.phase_at, rules.bake, now)
    if state.phase is Phase.ROLLING_BACK:
        yield left(state.phase_at, rules.abort_scale_down_delay, now)
    for since, span in (
        (state.unready_at, rules.progress_deadline),
        (state.waiting_at, rules.capacity_deadline),
        (state.unaccepted_at, rules.accept_timeout),
        (state.alone_at, rules.accept_timeout),
    ):
        if since is not None:
            yield left(since, span, now)


def seconds(span: timedelta) -> str:
    """Return *span* for people."""
    return f"{span.total_seconds():.0f} s"
