"""Why a run stands still; reasons are a set and each has its own end."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from modelops.plan import Event
from modelops.rollouts.clocks import ZERO, left, seconds
from modelops.rollouts.promotion import finish
from modelops.rollouts.retreat import roll_back
from modelops.rollouts.rules import Rules, Undecided
from modelops.rollouts.seen import HOLD_AT, Judgement, Seen, Step
from modelops.rollouts.state import Pause, Phase, Rollout

LASTING = frozenset({Pause.USER, Pause.INCONCLUSIVE})
"""Reasons that only a person ends; the others end when what caused them does."""

Cause = tuple[Pause, str]


def pauses(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Enter or leave a pause."""
    if state.phase not in (Phase.PROGRESSING, Phase.PAUSED):
        return None
    causes = dict(_causes(state, seen, now))
    paused_for = (state.paused_for & LASTING) | frozenset(causes)
    if paused_for == state.paused_for:
        return None
    if not paused_for:
        return Step(resumed(replace(state, paused_for=paused_for), seen, now))
    message = next(iter(causes.values()), state.message)
    was_paused = state.phase is Phase.PAUSED
    reason = "+".join(sorted(paused_for))
    state = replace(state, phase=Phase.PAUSED, paused_for=paused_for, message=message, reason=reason)
    state = state if was_paused else replace(state, phase_at=now)
    return Step(state, () if was_paused else (Event("Warning", "Paused", message),))


def conclude(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Do what the policy says when the time is over and nothing is proven, if enough was judged for it.

    A pause for any other reason comes first: nobody's wait, and no gap in the metrics, is decided over.
    """
    rules, judged = seen.rules, seen.judgement
    if state.phase not in (Phase.PROGRESSING, Phase.PAUSED) or state.is_overruled:
        return None
    if rules is None or rules.is_suspended or judged is None or not _is_over(judged):
        return None
    if state.paused_for - {Pause.INCONCLUSIVE} or seen.metrics_away_since is not None:
        return None
    if rules.undecided is Undecided.PAUSE or _undecidable(rules, judged):
        return None
    told = f"{seen.service}: {judged.message}; {judged.requests} canary requests were judged, of which "
    if rules.undecided is Undecided.ROLL_BACK:
        message = f"{told}onInconclusive: Rollback needs {rules.min_requests}; rolled back"
        return roll_back(state, seen, "Inconclusive", message, now)
    if seen.hold is not None or state.is_misrouted:
        return None
    assert state.candidate is not None
    why = f"{told}onInconclusive: Promote needs {rules.min_requests}".removeprefix(f"{seen.service}: ")
    return finish(state, seen, rules, now, why)


def pause(state: Rollout, why: Pause, message: str, now: datetime) -> Step:
    """Pause for *why*; before the first step the run goes on getting ready and stops there."""
    if state.phase is Phase.STARTING:
        return Step(replace(state, paused_for=state.paused_for | {why}))
    if state.phase not in (Phase.PROGRESSING, Phase.PAUSED):
        return Step(state)
    since = state.phase_at if state.phase is Phase.PAUSED else now
    state = replace(state, phase=Phase.PAUSED, phase_at=since, paused_for=state.paused_for | {why})
    return Step(replace(state, reason=str(why), message=message), (Event("Normal", "Paused", message),))


def resumed(state: Rollout, seen: Seen, now: datetime) -> Rollout:
    """Return *state* in motion again, unless a reason is left."""
    if state.paused_for or state.phase is not Phase.PAUSED:
        return state
    message = f"{seen.service}: goes on at {state.weight} %"
    return replace(state, phase=Phase.PROGRESSING, phase_at=now, reason="Progressing", message=message)


def _is_over(judged: Judgement) -> bool:
    """Return whether the time for a decision is over; requests that are missing are no time."""
    return judged.verdict == "Inconclusive" and judged.reason != "NoData"


def _undecidable(rules: Rules, judged: Judgement) -> str:
    """Return why the policy's onInconclusive leaves it to a person, with the numbers; empty: it does not."""
    wanted = f"onInconclusive: {rules.undecided.value} needs"
    if judged.requests < rules.min_requests:
        return f"{wanted} {rules.min_requests} judged canary requests, found {judged.requests}"
    if not judged.is_stable_healthy:
        return f"{wanted} a healthy stable version, found it failing in its last windows"
    if rules.undecided is not Undecided.PROMOTE:
        return ""
    if judged.beyond is not None:
        return f"{wanted} every estimate within what is unacceptable, found {judged.beyond}"
    if judged.robust >= HOLD_AT:
        return f"{wanted} evidence of a regression below {HOLD_AT:g}:1, found {judged.robust:.3g}:1"
    return ""


def _causes(state: Rollout, seen: Seen, now: datetime) -> Iterator[Cause]:
    """Yield every cause to pause that is there now, with its sentence."""
    if seen.rules is None:
        yield Pause.POLICY_MISSING, f"{seen.service}: needs its rollout policy, found none; create it again"
        return
    if seen.hold is not None and not seen.waits_for_capacity:
        yield Pause.HELD, seen.hold.message
    yield from _of_the_cluster(state, seen, seen.rules, now)
    yield from _of_the_step(state, seen, seen.rules, now)
    if seen.rules.is_analysed:
        yield from _of_the_judge(state, seen, seen.rules, now)


def _of_the_cluster(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Iterator[Cause]:
    since = state.unaccepted_at
    if since is not None and now - since >= rules.accept_timeout:
        found = seen.route.fault.message if seen.route.fault else f"{seen.service}: no answer of the gateway"
        yield Pause.ROUTE_NOT_ACCEPTED, f"{found}; weight stays at {state.weight} % until it is"
    if state.waiting_at is not None:
        pods = seen.candidate
        yield (
            Pause.WAITING_FOR_CAPACITY,
            f"{seen.service}: needs room for {pods.wanted} pods of the new version, found it for "
            f"{max(0, pods.wanted - pods.without_room)}; weight stays at {state.weight} %",
        )


def _of_the_step(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Iterator[Cause]:
    """Yield what the policy says about the step: a person's word, or a time, from its acceptance on."""
    stage = rules.stage(state.step)
    if state.step_at is None:
        return
    if stage.needs_approval and Pause.APPROVAL not in state.passed:
        yield (
            Pause.APPROVAL,
            f"{seen.service}: the step at {state.weight} % needs approval, found none; "
            f"run kubectl modelops rollout promote {seen.service}",
        )
    if Pause.STEP in state.passed:
        return
    if stage.waits:
        yield Pause.STEP, f"{seen.service}: the step at {state.weight} % waits for a person's Resume"
    elif left(state.step_at, stage.pause, now) > ZERO:
        yield Pause.STEP, f"{seen.service}: the step at {state.weight} % pauses for {seconds(stage.pause)}"


def _of_the_judge(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Iterator[Cause]:
    away, judged = seen.metrics_away_since, seen.judgement
    if away is not None and now - away >= rules.metrics_away_after:
        yield (
            Pause.METRICS_UNAVAILABLE,
            f"{seen.service}: needs metrics to judge, Prometheus does not answer; "
            f"weight stays at {state.weight} % until it does",
        )
    if judged is None:
        return
    message = f"{seen.service}: {judged.message}"
    match judged.verdict, judged.reason:
        case "Inconclusive", "NoData":
            if rules.pauses_without_data and not rules.stage(state.step).is_preview:
                yield Pause.NO_DATA, message
        case "Inconclusive", _:
            if not state.is_overruled:
                why = "" if rules.undecided is Undecided.PAUSE else _undecidable(rules, judged)
                yield Pause.INCONCLUSIVE, f"{message}; {why}" if why else message
        case "Continue", "BaselineUnhealthy":
            yield Pause.BASELINE_UNHEALTHY, message
        case "Continue", "NotComparable":
            # A window of the step before had that step's load: the next one shows whether this one is uneven.
            if state.step_at and judged.window_end and judged.window_end > state.step_at:
                yield Pause.NOT_COMPARABLE, message
