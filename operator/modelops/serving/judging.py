"""Ask the judge about a running rollout, with the policy's own settings."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from modelops.analysis import settings as judge_settings
from modelops.analysis.frozen import Frozen, freeze
from modelops.analysis.judge import judge
from modelops.analysis.ledger import Era, Span
from modelops.analysis.policy import metric_of
from modelops.analysis.verdict import Verdict
from modelops.api.metrics import MarginName
from modelops.api.policy import Baseline, Policy, Preset
from modelops.rollouts.rules import rules
from modelops.rollouts.seen import Judgement
from modelops.rollouts.state import Phase, Rollout
from modelops.rollouts.steps import later
from modelops.serving import demand
from modelops.serving.snapshot import Measured, Snapshot


def settings(policy: Policy, runtime: Preset) -> judge_settings.Settings:
    """Return the policy as the judge reads it; *runtime* says what preset Auto means."""
    margins = {
        MarginName.LATENCY: (policy.latency.max_regression, policy.latency.unacceptable),
        MarginName.ERRORS: (policy.errors.max_regression, policy.errors.unacceptable),
        MarginName.QUALITY: (policy.quality.max_regression, policy.quality.unacceptable),
    }
    return judge_settings.Settings(
        window=policy.window,
        warmup=policy.warmup,
        latency=judge_settings.LatencyMargin(policy.latency.max_regression, policy.latency.unacceptable),
        errors=judge_settings.ErrorMargin(
            policy.errors.max_regression,
            policy.errors.unacceptable,
            policy.errors.ignore_below,
            policy.errors.slo,
        ),
        confidence=judge_settings.Confidence(policy.false_rollback, policy.missed_regression),
        metrics=tuple(metric_of(m, margins) for m in policy.metric_settings(runtime)),
        no_data_after=policy.no_data_after,
        max_duration=policy.max_duration,
        min_dwell=policy.min_dwell,
        steps=policy.steps,
        baseline=_baseline(policy),
    )


def _baseline(policy: Policy) -> judge_settings.Baseline:
    """Return what the candidate is compared with: requests that were chosen are not like stable's."""
    is_alone = policy.matches or policy.switch is not None or policy.baseline is Baseline.NONE
    return judge_settings.Baseline.NONE if is_alone else judge_settings.Baseline.STABLE


def of_this_run(seen: Snapshot, state: Rollout) -> Snapshot:
    """Return *seen* without what was measured for another run."""
    if seen.measured.run_id == state.run_id:
        return seen
    return replace(seen, measured=Measured())


def is_judged(state: Rollout) -> bool:
    """Return whether the new version is judged now: beside stable, or alone while it bakes."""
    return state.is_at_step or state.phase in (Phase.PROMOTING, Phase.BAKING)


def frozen_of(state: Rollout, measured: Measured) -> Frozen | None:
    """Return what the run is judged against: as it was frozen, or frozen now from stable's hour before."""
    if state.frozen:
        return Frozen.from_status(state.frozen)
    return None if measured.history is None else freeze(measured.history)


def ask(
    state: Rollout,
    seen: Snapshot,
    frozen: Frozen | None,
    now: datetime,
    *,
    in_force: judge_settings.Settings | None = None,
    earlier: Sequence[Era] = (),
    paused: Sequence[Span] = (),
) -> Verdict | None:
    """Return the verdict on the run so far; None when there is nothing to judge yet.

    *in_force* are the settings that the run keeps: windows have the length of its start.  *earlier* are
    those that an edit replaced, and in *paused* spans (epoch seconds) the clock stood.
    """
    policy = seen.policy
    if policy is None or policy.preset is Preset.NONE or frozen is None:
        return None
    if not is_judged(state) or state.ready_at is None:
        return None
    asked = rules(policy, by_pods=demand.by_pods(seen))
    step_at, dwell = state.step_at, asked.stage(state.step).dwell
    is_baking = state.phase is Phase.BAKING
    is_last = not is_baking and later(state, asked, demand.replicas(seen.service.spec)) is None
    switched = _switched_at(state)
    if is_baking and not any(window.start >= switched for window in seen.measured.windows):
        return None  # what promoted it stays told until there is something to say
    return judge(
        in_force or settings(policy, seen.runtime),
        frozen,
        seen.measured.windows,
        started_at=_started_at(state, policy),
        at_last_step=is_last,
        dwell_served=step_at is not None and now - step_at >= dwell,
        paused=paused,
        earlier=earlier,
        carry=(seen.status.get("rollout") or {}).get("carry"),
        switched_at=switched if is_baking else None,
    )


def _started_at(state: Rollout, policy: Policy) -> float:
    """Return from when on the warm-up counts: no window in which the candidate was evaluated is evidence."""
    assert state.ready_at is not None
    ready = state.ready_at.timestamp()
    if state.evaluation is None:
        return ready
    return max(ready, (state.evaluation.at - policy.warmup).timestamp())


def _switched_at(state: Rollout) -> float:
    """Return since when all requests go to the version that bakes, in epoch seconds."""
    return math.inf if state.phase_at is None else state.phase_at.timestamp()


def word(verdict: Verdict | None) -> Judgement | None:
    """Return the verdict as the state machine reads it."""
    if verdict is None:
        return None
    end = datetime.fromtimestamp(verdict.until, UTC) if verdict.until is not None else None
    return Judgement(
        verdict.name.value,
        verdict.reason.value,
        verdict.message,
        verdict.robust,
        end,
        verdict.has_canary_request,
        verdict.requests,
        verdict.beyond,
        verdict.is_stable_healthy,
    )
