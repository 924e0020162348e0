"""Replay recorded samples through the judge, window by window, as they would have been judged live."""

from typing import Any

from modelops.analysis.judge import decide
from modelops.analysis.ledger import Ledger
from modelops.analysis.policy import Refused
from modelops.analysis.recording import Recording, load
from modelops.analysis.samples import Window
from modelops.analysis.verdict import MetricVerdict, Outcome, Verdict

DIGITS = 6


def replay(document: object) -> dict[str, Any]:
    """Return the verdict on a recording as plain data, camelCase: the last one, and one per window.

    Raises:
        Refused: the recording cannot be judged; the text names sample and field.
    """
    recording = load(document)
    ledger = Ledger(recording.settings, recording.frozen, 0.0)
    verdict = decide(ledger, at_last_step=False, dwell_served=False)
    served, intervals, decided_at = 0.0, [], None
    for window in recording.windows:
        before = ledger.counted_seconds
        ledger.add(window, recording.settings, is_counted=True)
        served = _served(recording, window, served, ledger.counted_seconds - before)
        has_served = served >= _wanted_dwell(recording)
        verdict = decide(
            ledger,
            at_last_step=_at_last_step(recording, window, has_served),
            dwell_served=has_served,
        )
        intervals.append(_interval(window, verdict))
        if verdict.name in (Outcome.PROMOTE, Outcome.ROLLBACK):
            decided_at = _whole(window.end)
            break
    return {
        "verdict": verdict.name.value,
        "decidedAt": decided_at,
        "reason": verdict.reason.value,
        "message": verdict.message,
        "metrics": [_metric(row) for row in verdict.metrics],
        "intervals": intervals,
    }


def _served(recording: Recording, window: Window, served: float, seconds: float) -> float:
    """Return the counted time at the last step so far; a step back begins it anew."""
    if not recording.has_weights:
        return served + seconds
    if window.weight is None or window.weight >= recording.settings.steps[-1]:
        return served + (seconds if window.weight is not None else 0.0)
    return 0.0


def _wanted_dwell(recording: Recording) -> float:
    dwell = recording.settings.min_dwell.total_seconds()
    return dwell if recording.has_weights else dwell * max(1, len(recording.settings.steps))


def _at_last_step(recording: Recording, window: Window, has_served: bool) -> bool:
    if not recording.has_weights:
        return has_served
    return window.weight is not None and window.weight >= recording.settings.steps[-1]


def _interval(window: Window, verdict: Verdict) -> dict[str, Any]:
    return {
        "t": _whole(window.end),
        "verdict": verdict.name.value,
        "reason": verdict.reason.value,
        "used": verdict.is_used,
        "regression": _round(verdict.evidence),
        "robust": _round(verdict.robust),
        "certificate": _round(verdict.certificate),
    }


def _metric(row: MetricVerdict) -> dict[str, Any]:
    return {
        "name": row.name,
        "boundary": row.boundary,
        "weight": _round(row.weight),
        "n": {"canary": row.n_canary, "stable": row.n_stable},
        "canary": _round(row.canary),
        "stable": _round(row.stable),
        "regression": _round(row.regression),
        "robust": _round(row.robust),
        "certificate": _round(row.certificate),
        "promoteAt": row.promote_at,
        **({} if row.limit is None else {"limit": _round(row.limit)}),
        **({"rule": row.rule} if row.rule else {}),
    }


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _whole(seconds: float) -> int | float:
    return int(seconds) if seconds == int(seconds) else seconds


__all__ = ["Recording", "Refused", "load", "replay"]
