"""What a run is judged with, since when, and when it stood still: kept in status for the whole run.

An edit of the policy takes effect with the next window; every window keeps the settings that it was judged
with, else old evidence would be priced anew and its guarantee void.  The window's length is that of the
run's start, since counts are read by windows.

Source: research/rollouts.md 2.2 and 5.8.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta
from typing import Any

from modelops.analysis.ledger import Era as Earlier
from modelops.analysis.ledger import Span
from modelops.analysis.settings import (
    Baseline,
    Confidence,
    Custom,
    ErrorMargin,
    Kind,
    LatencyMargin,
    Metric,
    Mode,
    Settings,
)
from modelops.rollouts.state import KEEP_ERAS, Era, Rollout
from modelops.serving import judging
from modelops.serving.snapshot import Snapshot


def noted(state: Rollout, seen: Snapshot, now: datetime) -> Rollout:
    """Return *state* with the settings in force; without a policy the last ones stay."""
    is_run = state.candidate is not None and state.stable is not None and not state.is_before_start
    if seen.policy is None or not is_run:
        return state
    settings = judging.settings(seen.policy, seen.runtime)
    before = in_force(state)
    if before is not None:
        settings = replace(settings, window=before.window)
    if settings == before or len(state.eras) >= KEEP_ERAS:
        return state
    return replace(state, eras=(*state.eras, Era(now, to_wire(settings))))


def in_force(state: Rollout) -> Settings | None:
    """Return the settings of the windows that begin now; None before the run has a policy."""
    return of_wire(state.eras[-1].settings) if state.eras else None


def earlier(state: Rollout) -> tuple[Earlier, ...]:
    """Return the settings no longer in force, oldest first, for the judge.

    The window in which an edit came keeps the settings that it began with.
    """
    found = []
    for era, after in zip(state.eras, state.eras[1:], strict=False):
        settings = of_wire(era.settings)
        found.append(Earlier((after.since + settings.window).timestamp(), settings))
    return tuple(found)


def paused(state: Rollout, now: datetime) -> tuple[Span, ...]:
    """Return when the run stood still, in epoch seconds, for the judge; the last one may still go on."""
    spans = [(span.start.timestamp(), span.end.timestamp()) for span in state.pauses]
    if state.paused_at is not None:
        spans.append((state.paused_at.timestamp(), now.timestamp()))
    return tuple(spans)


def to_wire(settings: Settings) -> dict[str, Any]:
    """Return plain data in camelCase.  Law: ``of_wire(to_wire(s)) == s``."""
    seconds = {name: getattr(settings, name).total_seconds() for name in _TIMES}
    return {
        **{_camel(name): value for name, value in seconds.items()},
        "latency": {_camel(k): v for k, v in asdict(settings.latency).items()},
        "errors": {_camel(k): v for k, v in asdict(settings.errors).items()},
        "confidence": {_camel(k): v for k, v in asdict(settings.confidence).items()},
        "metrics": [_metric_to(metric) for metric in settings.metrics],
        "steps": list(settings.steps),
        **({} if settings.baseline is Baseline.STABLE else {"baseline": settings.baseline.value}),
    }


def of_wire(wire: Mapping[str, Any]) -> Settings:
    """Return the settings that *wire* holds."""
    latency, errors, confidence = wire["latency"], wire["errors"], wire["confidence"]
    return Settings(
        latency=LatencyMargin(latency["maxRegression"], latency["unacceptable"]),
        errors=ErrorMargin(
            errors["maxRegression"], errors["unacceptable"], errors["ignoreBelow"], errors["slo"]
        ),
        confidence=Confidence(confidence["falseRollback"], confidence["missedRegression"]),
        metrics=tuple(_metric_of(metric) for metric in wire["metrics"]),
        steps=tuple(wire["steps"]),
        baseline=Baseline(wire.get("baseline", Baseline.STABLE)),
        **{name: timedelta(seconds=wire[_camel(name)]) for name in _TIMES},
    )


def _metric_to(metric: Metric) -> dict[str, Any]:
    out: dict[str, Any] = {"name": metric.name, "mode": metric.mode.value, "weight": metric.weight}
    if metric.custom is not None:
        custom = {_camel(key): value for key, value in asdict(metric.custom).items() if value is not None}
        out["custom"] = {**custom, "kind": metric.custom.kind.value, "queries": list(metric.custom.queries)}
    return out


def _metric_of(wire: Mapping[str, Any]) -> Metric:
    custom = wire.get("custom")
    if custom is None:
        return Metric(wire["name"], Mode(wire["mode"]), wire["weight"])
    given = {
        field.name: custom[_camel(field.name)] for field in fields(Custom) if _camel(field.name) in custom
    }
    given |= {"kind": Kind(custom["kind"]), "queries": tuple(custom["queries"])}
    return Metric(wire["name"], Mode(wire["mode"]), wire["weight"], Custom(**given))


_TIMES = ("window", "warmup", "no_data_after", "max_duration", "min_dwell")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
