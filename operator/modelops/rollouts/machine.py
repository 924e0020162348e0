"""Advance a rollout by what is seen: pure, one transition at a time, safe to repeat."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modelops.plan import Event, Reason
from modelops.rollouts.state import Acted, Pause, Phase, Rejected, Revision, Rollout, rejects
from modelops.rollouts.traffic import candidate_replicas

HOLD_AT = 4.0
STEP_BACK_AT = 20.0
KEEP_REJECTED = 10
LONGEST_REASON = 1024
"""Letters of a rejection's sentence that status keeps."""
SELF_ENDING = frozenset(
    {
        Pause.NO_DATA,
        Pause.METRICS_UNAVAILABLE,
        Pause.ROUTE_NOT_ACCEPTED,
        Pause.WAITING_FOR_CAPACITY,
        Pause.POLICY_MISSING,
        Pause.HELD,
    }
)
"""Reasons that end when what caused them ends; the others need a person or a timer."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy in force, as far as the machine needs it."""

    steps: tuple[int, ...] = (5, 10, 25, 50)
    """Percent, strictly increasing, in 1..99."""
    dwells: tuple[timedelta, ...] = ()
    """Earliest raise per step, timed pauses included; shorter than ``steps``: ``min_dwell`` fills up."""
    waits: tuple[bool, ...] = ()
    """Whether a step waits for a person's Resume."""
    min_dwell: timedelta = timedelta(minutes=2)
    warmup: timedelta = timedelta(minutes=2)
    min_ready: timedelta = timedelta(seconds=10)
    progress_deadline: timedelta = timedelta(minutes=30)
    restart_limit: int = 3
    scale_down_delay: timedelta = timedelta(minutes=2)
    abort_scale_down_delay: timedelta = timedelta(seconds=30)
    accept_timeout: timedelta = timedelta(minutes=2)
    metrics_away_after: timedelta = timedelta(hours=1)
    rollback_window: int = 3
    is_analysed: bool = True
    """False: readiness alone moves the steps (preset None)."""
    rolls_back: bool = True
    """False: a regression holds instead (onRegression: Hold)."""
    is_suspended: bool = False

    def dwell(self, index: int) -> timedelta:
        """Return how long step *index* lasts at least."""
        return self.dwells[index] if index < len(self.dwells) else self.min_dwell


NO_POLICY = Rules(
    steps=(),
    warmup=timedelta(0),
    is_analysed=False,
)
"""No policy at all: the new version replaces the old one when it is ready."""


@dataclass(frozen=True, slots=True)
class Pods:
    """What runs of one revision."""

    ready: int = 0
    wanted: int = 0
    """How many the revision needs for the weight that is asked of it."""
    restarts: int = 0
    """Container restarts, summed over its pods."""


@dataclass(frozen=True, slots=True)
class Route:
    """What our parent Gateway accepted."""

    candidate_weight: int | None = None
    """Percent that the accepted route sends to the candidate; None: no route, or not accepted."""
    stable_hash: str = ""
    """Revision that gets the rest."""
    fault: Reason | None = None
    """Why the last write is not accepted; None: it is, or there was none."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judge's word on the closed windows of this run."""

    verdict: str
    """Continue, Promote, Rollback or Inconclusive."""
    reason: str
    message: str
    robust: float = 1.0
    """Evidence of regression without the most telling window."""
    window_end: datetime | None = None
    """End of the last window that was used."""
    has_canary_traffic: bool = False
    """Whether the last window has a request to the candidate."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything the machine looks at."""

    service: str
    desired: Revision | None
    """None: the spec names nothing that can be resolved yet; what runs goes on."""
    rules: Rules | None
    """None: the policy that the service names is missing."""
    replicas: int = 1
    """Ready pods that the service should have as a whole."""
    stable: Pods = Pods()
    candidate: Pods = Pods()
    route: Route = Route()
    hold: Reason | None = None
    """What the gates or the placement say against the candidate."""
    waits_for_capacity: bool = False
    """Whether *hold* is about room on nodes, which is not the version's fault."""
    desired_hold: Reason | None = None
    """What speaks against starting *desired*; room on nodes never does."""
    judgement: Judgement | None = None
    """None: no closed window yet."""
    metrics_away_since: datetime | None = None
    action: Acted | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """The next memory, what to tell once, and when to look again at the latest."""

    state: Rollout
    events: tuple[Event, ...] = ()
    after: timedelta | None = None


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
    return Step(state, after=_after(state, seen, now))


def run_id(revision: Revision, attempt: int) -> str:
    """Return the name of a run: the same for the same revision and attempt, whoever computes it."""
    text = f"{revision.hash}/{revision.digest}/{attempt}"
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


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


# --- moves, in order of priority ---------------------------------------------------------------------


def _act(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Carry out the action of a person, once, and only for the run it names."""
    action = seen.action
    if action is None or action == state.acted:
        return None
    if action.action == "Retry":
        return _retry(state, action, now)
    if action.run_id != state.run_id or state.phase in (Phase.STABLE, Phase.ROLLED_BACK):
        return None
    state = replace(state, acted=action)
    match action.action:
        case "Abort":
            return _roll_back(state, "Aborted", f"{seen.service}: aborted by a person", now)
        case "Pause":
            return _pause(state, Pause.USER, f"{seen.service}: paused by a person", now)
        case "Resume":
            overruled = state.is_overruled or Pause.INCONCLUSIVE in state.paused_for
            paused = state.paused_for - {Pause.USER, Pause.STEP, Pause.INCONCLUSIVE}
            state = replace(state, paused_for=paused, resumed=state.step, is_overruled=overruled)
            return Step(_resumed(state, now))
        case "Promote":
            if seen.candidate.ready == 0 or seen.hold is not None:
                return None  # nobody promotes past a closed gate
            return _promote(state, "PromotedByPerson", f"{seen.service}: promoted by a person", now)
        case _:
            return Step(state)


def _retry(state: Rollout, action: Acted, now: datetime) -> Step | None:
    known = next((r for r in state.rejected if r.run_id == action.run_id), None)
    if known is None:
        return None
    left = tuple(r for r in state.rejected if r.hash != known.hash)
    phase = Phase.STABLE if state.phase is Phase.ROLLED_BACK else state.phase
    state = replace(state, rejected=left, acted=action, attempt=state.attempt + 1, phase=phase, phase_at=now)
    return Step(state, (Event("Normal", "Retried", f"run {action.run_id} is tried again"),))


def _first(state: Rollout, seen: Seen, now: datetime) -> Step | None:
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
    if seen.candidate.ready == 0 or not _is_settled(state, seen, now):
        return None
    message = f"{seen.service}: {candidate.version} serves"
    return Step(_moved(state, candidate, now, "Serving", message), (Event("Normal", "Serving", message),))


def _is_stable_lost(state: Rollout, seen: Seen) -> bool:
    """Return whether stable has no ready pod, though it should."""
    return state.stable is not None and seen.stable.ready == 0 and seen.candidate.ready > 0


def _desire(state: Rollout, seen: Seen, now: datetime) -> Step | None:
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
        return Step(_started(state, desired, seen, now))
    if state.accepted or state.weight:
        message = f"{seen.service}: {desired.version} takes the place of {state.candidate.version}"
        state = replace(state, phase=Phase.SUPERSEDING, phase_at=now, weight=0, reason="Superseded")
        return Step(replace(state, message=message), (Event("Normal", "Superseded", message),))
    return Step(_started(state, desired, seen, now))


def _back_to_stable(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    if state.phase is Phase.ROLLED_BACK:
        return Step(_at_rest(state, now, "Serving", f"{seen.service}: the served version is wanted again"))
    if state.candidate is None or state.phase in (Phase.PROMOTING, Phase.BAKING):
        return None
    message = f"{seen.service}: the served version is wanted again; {state.candidate.version} is withdrawn"
    state = replace(state, phase=Phase.REVERTING, phase_at=now, weight=0, paused_for=frozenset())
    state = replace(state, reason="Reverted", message=message)
    return Step(state, (Event("Normal", "Reverted", message),))


def _harm(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Roll back on proof of harm, too many restarts, or a candidate that never gets ready."""
    if state.candidate is None or state.stable is None:
        return None
    if state.phase not in (Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING):
        return None
    rules = seen.rules or NO_POLICY
    judged = seen.judgement
    is_harmful = judged is not None and judged.verdict == "Rollback"
    if judged is not None and is_harmful and rules.is_analysed and rules.rolls_back:
        return _roll_back(state, judged.reason, f"{seen.service}: {judged.message}, rolled back", now)
    if seen.candidate.restarts > rules.restart_limit:
        return _roll_back(
            state,
            "RestartLimit",
            f"{seen.service}: {state.candidate.version} needs at most {rules.restart_limit} container "
            f"restarts, found {seen.candidate.restarts}; rolled back",
            now,
        )
    if state.unready_at is not None and now - state.unready_at >= rules.progress_deadline:
        return _roll_back(
            state,
            "DeadlineExceeded",
            f"{seen.service}: {state.candidate.version} needs {seen.candidate.wanted} ready pods within "
            f"{_seconds(rules.progress_deadline)}, found {seen.candidate.ready}; rolled back",
            now,
        )
    return None


def _unwind(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Finish what leads away from the candidate: traffic first and accepted, pods after."""
    if state.phase not in (Phase.ROLLING_BACK, Phase.REVERTING, Phase.SUPERSEDING):
        return None
    if state.accepted != 0:
        return None  # None: the gateway has not answered, so traffic may still go there
    rules = seen.rules or NO_POLICY
    if state.phase is Phase.ROLLING_BACK:
        if _left(state.phase_at, rules.abort_scale_down_delay, now) > timedelta(0):
            return None
        return Step(replace(state, phase=Phase.ROLLED_BACK, phase_at=now, candidate=None, unready_at=None))
    if state.phase is Phase.SUPERSEDING and seen.desired is not None:
        is_stable = state.stable is not None and seen.desired.hash == state.stable.hash
        if not is_stable and not rejects(state, seen.desired.hash):
            return Step(_started(state, seen.desired, seen, now))
    return Step(_at_rest(state, now, "Serving", f"{seen.service}: the served version stays"))


def _bake(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Let the version that served before go, once the new one is accepted and the delay is over."""
    if state.phase is not Phase.BAKING:
        return None
    rules = seen.rules or NO_POLICY
    is_served = state.stable is not None and seen.route.stable_hash == state.stable.hash
    if not is_served or _left(state.phase_at, rules.scale_down_delay, now) > timedelta(0):
        return None
    return Step(_at_rest(state, now, state.reason, state.message))


def _take_over(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Move the stable pointer when the accepted route sends everything to the candidate."""
    if state.phase is not Phase.PROMOTING or state.candidate is None:
        return None
    if seen.candidate.ready < max(1, seen.candidate.wanted):
        return None
    if state.weight != 100:
        return Step(replace(state, weight=100))
    if state.accepted != 100:
        return None
    return Step(_moved(state, state.candidate, now, state.reason, state.message))


def _admit(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Wait for approval without pods; start when the gates open."""
    if state.candidate is None:
        return None
    hold = None if seen.waits_for_capacity else seen.hold
    if state.phase is Phase.STARTING and hold is not None:
        return Step(_awaiting(state, hold, now))
    if state.phase is not Phase.AWAITING_APPROVAL:
        return None
    if hold is None:
        message = f"{seen.service}: {state.candidate.version} starts"
        state = replace(state, phase=Phase.STARTING, phase_at=now, reason="Starting", message=message)
        return Step(state, (Event("Normal", "Starting", message),))
    if hold.message != state.message:
        return Step(_awaiting(state, hold, now))
    return None


def _pauses(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Enter or leave a pause; reasons are a set and each has its own end."""
    if state.phase not in (Phase.PROGRESSING, Phase.PAUSED):
        return None
    causes = {pause: message for pause, message in _causes(state, seen, now)}
    lasting = frozenset(state.paused_for - SELF_ENDING)
    paused_for = lasting | frozenset(causes)
    if paused_for == state.paused_for:
        return None
    if not paused_for:
        return Step(_resumed(replace(state, paused_for=paused_for), now))
    message = next(iter(causes.values()), state.message)
    was_paused = state.phase is Phase.PAUSED
    reason = "+".join(sorted(paused_for))
    state = replace(state, phase=Phase.PAUSED, paused_for=paused_for, message=message, reason=reason)
    state = state if was_paused else replace(state, phase_at=now)
    return Step(state, () if was_paused else (Event("Warning", "Paused", message),))


def _causes(state: Rollout, seen: Seen, now: datetime) -> list[tuple[Pause, str]]:
    """Return every cause to pause that is there now, with its sentence."""
    causes = []
    if seen.rules is None:
        causes.append(
            (Pause.POLICY_MISSING, f"{seen.service}: needs its rollout policy, found none; create it again")
        )
        return causes
    if seen.hold is not None and not seen.waits_for_capacity:
        causes.append((Pause.HELD, seen.hold.message))
    since = state.unaccepted_at
    if since is not None and now - since >= seen.rules.accept_timeout:
        found = seen.route.fault.message if seen.route.fault else f"{seen.service}: no answer of the gateway"
        causes.append((Pause.ROUTE_NOT_ACCEPTED, f"{found}; weight stays at {state.weight} % until it is"))
    waits = state.step < len(seen.rules.waits) and seen.rules.waits[state.step]
    if waits and state.resumed != state.step and state.step_at is not None:
        causes.append(
            (Pause.STEP, f"{seen.service}: the step at {state.weight} % waits for a person's Resume")
        )
    away = seen.metrics_away_since
    if away is not None and seen.rules.is_analysed and now - away >= seen.rules.metrics_away_after:
        causes.append(
            (
                Pause.METRICS_UNAVAILABLE,
                f"{seen.service}: needs metrics to judge, Prometheus does not answer; "
                f"weight stays at {state.weight} % until it does",
            )
        )
    judged = seen.judgement
    if judged is not None and judged.verdict == "Inconclusive":
        pause = Pause.NO_DATA if judged.reason == "NoData" else Pause.INCONCLUSIVE
        if pause is Pause.NO_DATA or not state.is_overruled:
            causes.append((pause, f"{seen.service}: {judged.message}"))
    return causes


def _raise(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Take the first step after warm-up, and every next one on the judge's word."""
    rules = seen.rules
    if rules is None or rules.is_suspended or state.candidate is None or seen.hold is not None:
        return None
    if state.phase is Phase.STARTING:
        return _begin(state, seen, rules, now)
    if state.phase is not Phase.PROGRESSING:
        return None
    if seen.candidate.ready < seen.candidate.wanted or state.accepted != state.weight:
        return None
    if state.step_at is None or _left(state.step_at, rules.dwell(state.step), now) > timedelta(0):
        return None
    if not rules.is_analysed:
        return _next(state, seen, rules, now, "ready; no analysis by policy")
    return _judged(state, seen, rules, now)


def _begin(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Step | None:
    if not _is_settled(state, seen, now):
        return None
    if state.stable is None:
        return None
    candidate = state.candidate
    assert candidate is not None
    recent = state.promoted[-(rules.rollback_window + 1) :] if rules.rollback_window else ()
    if not rules.steps or candidate.hash in recent:
        why = "no steps by policy" if not rules.steps else "served before, inside the rollback window"
        return _promote(state, "Promoted", f"{seen.service}: {candidate.version} takes over: {why}", now)
    if state.ready_at is None or _left(state.ready_at, rules.warmup, now) > timedelta(0):
        return None
    return _at_step(state, seen, rules, 0, now, "is warm")


def _judged(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Step | None:
    judged = seen.judgement
    if judged is None or judged.window_end is None or judged.window_end == state.judged_to:
        return None
    at_last = state.step >= len(rules.steps) - 1  # beyond: the policy lost steps in mid-run
    if judged.verdict == "Promote" and at_last:
        state = replace(state, judged_to=judged.window_end)
        return _promote(state, "Promoted", f"{seen.service}: {judged.message}, promoted", now)
    if judged.verdict != "Continue" or judged.reason == "BaselineUnhealthy":
        return None
    if state.step_at is not None and judged.window_end <= state.step_at:
        return None
    if judged.robust >= STEP_BACK_AT and state.step > 0:
        state = replace(state, judged_to=judged.window_end)
        return _at_step(state, seen, rules, state.step - 1, now, "shows harm, one step back")
    if judged.robust >= HOLD_AT or not judged.has_canary_traffic:
        return None
    if at_last:
        return None
    return _next(replace(state, judged_to=judged.window_end), seen, rules, now, judged.message)


def _next(state: Rollout, seen: Seen, rules: Rules, now: datetime, why: str) -> Step:
    if state.step >= len(rules.steps) - 1:
        return _promote(state, "Promoted", f"{seen.service}: {why}, promoted", now)
    return _at_step(state, seen, rules, state.step + 1, now, why)


_MOVES: tuple[Callable[[Rollout, Seen, datetime], Step | None], ...] = (
    _act,
    _first,
    _desire,
    _harm,
    _unwind,
    _bake,
    _take_over,
    _admit,
    _pauses,
    _raise,
)
"""Harm stands before holds, so that a closed gate never stops a rollback."""


# --- states ------------------------------------------------------------------------------------------


def _started(state: Rollout, desired: Revision, seen: Seen, now: datetime) -> Rollout:
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
    return _awaiting(state, seen.desired_hold, now) if seen.desired_hold is not None else state


def _awaiting(state: Rollout, hold: Reason, now: datetime) -> Rollout:
    phase_at = state.phase_at if state.phase is Phase.AWAITING_APPROVAL else now
    return replace(
        state, phase=Phase.AWAITING_APPROVAL, phase_at=phase_at, reason=hold.code, message=hold.message
    )


def _at_step(state: Rollout, seen: Seen, rules: Rules, index: int, now: datetime, why: str) -> Step:
    weight = rules.steps[index]
    assert state.candidate is not None
    if seen.candidate.ready < candidate_replicas(seen.replicas, weight):
        return Step(replace(state, capacity=weight))
    message = f"{seen.service}: {state.candidate.version} at {weight} %: {why}"
    state = replace(
        state,
        phase=Phase.PROGRESSING,
        phase_at=now if state.phase is not Phase.PROGRESSING else state.phase_at,
        step=index,
        step_at=None,
        weight=weight,
        capacity=weight,
        reason="Progressing",
        message=message,
    )
    return Step(state, (Event("Normal", "WeightChanged", message),))


def _promote(state: Rollout, reason: str, message: str, now: datetime) -> Step:
    state = replace(state, phase=Phase.PROMOTING, phase_at=now, capacity=100, paused_for=frozenset())
    return Step(replace(state, reason=reason, message=message), (Event("Normal", reason, message),))


def _roll_back(state: Rollout, reason: str, message: str, now: datetime) -> Step:
    assert state.candidate is not None
    mark = Rejected(
        state.candidate.hash, state.candidate.version, now, message[:LONGEST_REASON], state.run_id
    )
    rejected = (*(r for r in state.rejected if r.hash != mark.hash), mark)[-KEEP_REJECTED:]
    state = replace(
        state,
        phase=Phase.ROLLING_BACK,
        phase_at=now,
        weight=0,
        rejected=rejected,
        paused_for=frozenset(),
        reason=reason,
        message=message,
    )
    return Step(state, (Event("Warning", "RolledBack", message),))


def _moved(state: Rollout, to: Revision, now: datetime, reason: str, message: str) -> Rollout:
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


def _at_rest(state: Rollout, now: datetime, reason: str, message: str) -> Rollout:
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


def _pause(state: Rollout, why: Pause, message: str, now: datetime) -> Step:
    if state.phase not in (Phase.PROGRESSING, Phase.PAUSED):
        return Step(state)
    state = replace(state, phase=Phase.PAUSED, phase_at=now, paused_for=state.paused_for | {why})
    return Step(replace(state, reason=str(why), message=message), (Event("Normal", "Paused", message),))


def _resumed(state: Rollout, now: datetime) -> Rollout:
    if state.paused_for or state.phase is not Phase.PAUSED:
        return state
    return replace(state, phase=Phase.PROGRESSING, phase_at=now, reason="Progressing", message="resumed")


# --- clocks ------------------------------------------------------------------------------------------


def _is_settled(state: Rollout, seen: Seen, now: datetime) -> bool:
    """Return whether the candidate was ready for long enough to get a request."""
    rules = seen.rules or NO_POLICY
    if seen.candidate.ready < max(1, seen.candidate.wanted) or state.ready_at is None:
        return False
    return _left(state.ready_at, rules.min_ready, now) <= timedelta(0)


def _left(since: datetime | None, span: timedelta, now: datetime) -> timedelta:
    return span if since is None else since + span - now


def _after(state: Rollout, seen: Seen, now: datetime) -> timedelta | None:
    """Return when a clock of this state runs out; None: nothing is timed."""
    rules = seen.rules or NO_POLICY
    ends: list[timedelta] = []
    match state.phase:
        case Phase.STARTING:
            if state.ready_at is not None:
                ends.append(_left(state.ready_at, rules.min_ready, now))
                ends.append(_left(state.ready_at, rules.warmup, now))
        case Phase.PROGRESSING if state.step_at is not None:
            ends.append(_left(state.step_at, rules.dwell(state.step), now))
            if seen.metrics_away_since is not None:
                ends.append(_left(seen.metrics_away_since, rules.metrics_away_after, now))
        case Phase.BAKING:
            ends.append(_left(state.phase_at, rules.scale_down_delay, now))
        case Phase.ROLLING_BACK:
            ends.append(_left(state.phase_at, rules.abort_scale_down_delay, now))
        case _:
            pass
    if state.unready_at is not None:
        ends.append(_left(state.unready_at, rules.progress_deadline, now))
    if state.unaccepted_at is not None:
        ends.append(_left(state.unaccepted_at, rules.accept_timeout, now))
    future = [end for end in ends if end > timedelta(0)]
    return min(future) if future else None


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
