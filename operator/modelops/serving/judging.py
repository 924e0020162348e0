"""Ask the judge about a running rollout, with the policy's own settings."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from modelops.analysis import settings as judge_settings
from modelops.analysis.frozen import Frozen, freeze
from modelops.analysis.judge import judge
from modelops.analysis.verdict import Verdict
from modelops.api.policy import OnRegression, Policy, Preset
from modelops.rollouts.rules import Rules
from modelops.rollouts.seen import Judgement
from modelops.rollouts.state import Phase, Rollout
from modelops.serving.snapshot import Measured, Snapshot

JUDGED = (Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING)


def rules(policy: Policy) -> Rules:
    """Return the policy as the state machine reads it."""
    settings = [policy.setting(weight) for weight in policy.steps]
    return Rules(
        steps=policy.steps,
        dwells=tuple(max(s.min_dwell, s.pause or s.min_dwell) for s in settings),
        waits=tuple(s.waits_for_resume for s in settings),
        min_dwell=policy.min_dwell,
        warmup=policy.warmup,
        min_ready=policy.min_ready,
        progress_deadline=policy.progress_deadline,
        restart_limit=policy.restart_limit,
        scale_down_delay=policy.scale_down_delay,
        abort_scale_down_delay=policy.abort_scale_down_delay,
        accept_timeout=policy.accept_timeout,
        metrics_away_after=policy.metrics_unavailable_after,
        rollback_window=policy.rollback_window,
        is_analysed=policy.preset is not Preset.NONE,
        rolls_back=policy.on_regression is OnRegression.ROLLBACK,
        is_suspended=policy.is_suspended,
    )


def settings(policy: Policy, runtime: Preset) -> judge_settings.Settings:
    """Return the policy as the judge reads it; *runtime* says what preset Auto means."""
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
        metrics=tuple(
            judge_settings.Metric(m.name, judge_settings.Mode(m.mode.value), float(m.weight))
            for m in policy.metric_settings(runtime)
        ),
        no_data_after=policy.no_data_after,
        max_duration=policy.max_duration,
        min_dwell=policy.min_dwell,
        steps=policy.steps,
    )


def of_this_run(seen: Snapshot, state: Rollout) -> Snapshot:
    """Return *seen* without what was measured for another run."""
    if seen.measured.run_id == state.run_id:
        return seen
    return replace(seen, measured=Measured())


def frozen_of(state: Rollout, measured: Measured) -> Frozen | None:
    """Return what the run is judged against: as it was frozen, or frozen now from stable's hour before."""
    if state.frozen:
        return Frozen.from_status(state.frozen)
    return None if measured.history is None else freeze(measured.history)


def ask(state: Rollout, seen: Snapshot, frozen: Frozen | None, now: datetime) -> Verdict | None:
    """Return the verdict on the run so far; None when there is nothing to judge yet."""
    policy = seen.policy
    if policy is None or policy.preset is Preset.NONE or frozen is None:
        return None
    if state.phase not in JUDGED or state.ready_at is None:
        return None
    step_at = state.step_at
    is_step = state.step < len(policy.steps)
    dwell = policy.setting(policy.steps[state.step]).min_dwell if is_step else timedelta(0)
    return judge(
        settings(policy, seen.runtime),
        frozen,
        seen.measured.windows,
        started_at=state.ready_at.timestamp(),
        at_last_step=state.step >= len(policy.steps) - 1,
        dwell_served=step_at is not None and now - step_at >= dwell,
        carry=(seen.status.get("rollout") or {}).get("carry"),
    )


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
    )
