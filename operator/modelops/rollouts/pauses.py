"""Why a run stands still; reasons are a set and each has its own end."""

from dataclasses import replace
from datetime import datetime

from modelops.plan import Event
from modelops.rollouts.seen import Seen, Step
from modelops.rollouts.state import Pause, Phase, Rollout

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


def pauses(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Enter or leave a pause; reasons are a set and each has its own end."""
    if state.phase not in (Phase.PROGRESSING, Phase.PAUSED):
        return None
    causes = {pause: message for pause, message in _causes(state, seen, now)}
    lasting = frozenset(state.paused_for - SELF_ENDING)
    paused_for = lasting | frozenset(causes)
    if paused_for == state.paused_for:
        return None
    if not paused_for:
        return Step(resumed(replace(state, paused_for=paused_for), now))
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


def pause(state: Rollout, why: Pause, message: str, now: datetime) -> Step:
    if state.phase not in (Phase.PROGRESSING, Phase.PAUSED):
        return Step(state)
    state = replace(state, phase=Phase.PAUSED, phase_at=now, paused_for=state.paused_for | {why})
    return Step(replace(state, reason=str(why), message=message), (Event("Normal", "Paused", message),))


def resumed(state: Rollout, now: datetime) -> Rollout:
    if state.paused_for or state.phase is not Phase.PAUSED:
        return state
    return replace(state, phase=Phase.PROGRESSING, phase_at=now, reason="Progressing", message="resumed")
