"""Which clock of a run is over, and which one runs out next."""

from datetime import datetime, timedelta

from modelops.rollouts.rules import NO_POLICY
from modelops.rollouts.seen import Seen
from modelops.rollouts.state import Phase, Rollout


def after(state: Rollout, seen: Seen, now: datetime) -> timedelta | None:
    """Return when a clock of this state runs out; None: nothing is timed."""
    rules = seen.rules or NO_POLICY
    ends: list[timedelta] = []
    match state.phase:
        case Phase.STARTING:
            if state.ready_at is not None:
                ends.append(left(state.ready_at, rules.min_ready, now))
                ends.append(left(state.ready_at, rules.warmup, now))
        case Phase.PROGRESSING if state.step_at is not None:
            ends.append(left(state.step_at, rules.dwell(state.step), now))
            if seen.metrics_away_since is not None:
                ends.append(left(seen.metrics_away_since, rules.metrics_away_after, now))
        case Phase.BAKING:
            ends.append(left(state.phase_at, rules.scale_down_delay, now))
        case Phase.ROLLING_BACK:
            ends.append(left(state.phase_at, rules.abort_scale_down_delay, now))
        case _:
            pass
    if state.unready_at is not None:
        ends.append(left(state.unready_at, rules.progress_deadline, now))
    if state.unaccepted_at is not None:
        ends.append(left(state.unaccepted_at, rules.accept_timeout, now))
    future = [end for end in ends if end > timedelta(0)]
    return min(future) if future else None


def is_settled(state: Rollout, seen: Seen, now: datetime) -> bool:
    """Return whether the candidate was ready for long enough to get a request."""
    rules = seen.rules or NO_POLICY
    if seen.candidate.ready < max(1, seen.candidate.wanted) or state.ready_at is None:
        return False
    return left(state.ready_at, rules.min_ready, now) <= timedelta(0)


def left(since: datetime | None, span: timedelta, now: datetime) -> timedelta:
    return span if since is None else since + span - now


def seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
