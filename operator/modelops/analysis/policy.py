"""Read what the judge needs out of a RolloutPolicy ``spec`` that was written down by hand."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import ValidationError

from modelops.analysis.settings import (
    ERRORS,
    PREDICTIVE,
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
from modelops.api.meta import Malformed, Spec
from modelops.api.metrics import (
    KINDS,
    Counter,
    Gauge,
    Histogram,
    MarginName,
    MetricSetting,
    Ratio,
    Score,
    Threshold,
    metric_setting,
)
from modelops.api.metrics import Metric as PolicyMetric

T = TypeVar("T")

SPEC = frozenset(
    {
        "strategy",
        "suspend",
        "canary",
        "blueGreen",
        "shadow",
        "warmup",
        "analysis",
        "approval",
        "hooks",
        "loadTest",
        "progressDeadline",
        "minReady",
        "restartLimit",
        "scaleDownDelay",
        "drainTimeout",
        "abortScaleDownDelay",
        "rollbackWindow",
        "traffic",
    }
)
CANARY = frozenset(
    {
        "steps",
        "stepSettings",
        "stepWeight",
        "maxWeight",
        "minDwell",
        "maxDuration",
        "capacity",
        "match",
        "sessionAffinity",
        "mirrorFirst",
    }
)
STEP = frozenset({"weight", "minDwell", "pause", "replicas", "approval"})
ANALYSIS = frozenset(
    {
        "preset",
        "window",
        "baseline",
        "margins",
        "confidence",
        "metrics",
        "noData",
        "metricsUnavailable",
        "onRegression",
        "onInconclusive",
        "minRequests",
        "retain",
    }
)
METRIC = frozenset({"name", "mode", "weight", "margin", *KINDS})
Margins = Mapping[MarginName, tuple[float, float]]
"""What is tolerated and unacceptable by the name of a margin: ratios, or drops for quality."""
_PARTS: Mapping[str, type[Spec]] = {
    "histogram": Histogram,
    "ratio": Ratio,
    "counter": Counter,
    "gauge": Gauge,
    "score": Score,
    "threshold": Threshold,
}
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
LEAST_WINDOW = timedelta(seconds=30)


class Refused(ValueError):
    """The input cannot be judged; the text is one sentence with place, wanted, found."""


def settings(spec: Mapping[str, Any], histograms: tuple[str, ...]) -> Settings:
    """Return the settings of a RolloutPolicy *spec*; ``{}`` is the default policy.

    With preset Auto the *histograms* that were recorded are judged, beside the errors.

    Raises:
        Refused: a field is unknown, malformed, or asks for what cannot be replayed.
    """
    _only(spec, SPEC, "policy")
    if spec.get("strategy", "Canary") != "Canary":
        raise Refused(f"policy.strategy: needs Canary to replay, found {spec['strategy']}")
    canary = _mapping(spec, "canary", CANARY, "policy")
    analysis = _mapping(spec, "analysis", ANALYSIS, "policy")
    baseline = analysis.get("baseline") or Baseline.STABLE
    if baseline not in tuple(Baseline):
        raise Refused(f"policy.analysis.baseline: needs Stable or None to replay, found {baseline}")
    margins = _mapping(analysis, "margins", {"latency", "errors", "quality"}, "policy.analysis")
    quality = _quality(_mapping(margins, "quality", {"maxDrop", "unacceptable"}, "policy.analysis.margins"))
    where = "policy.analysis.margins"
    latency = _latency(_mapping(margins, "latency", {"maxRegression", "unacceptable"}, where))
    errors = _errors(
        _mapping(margins, "errors", {"maxRegression", "unacceptable", "ignoreBelow", "slo"}, where)
    )
    by_name = {
        MarginName.LATENCY: (latency.max_regression, latency.unacceptable),
        MarginName.ERRORS: (errors.max_regression, errors.unacceptable),
        MarginName.QUALITY: quality,
    }
    default = Settings()
    steps = _steps(canary)
    out = Settings(
        window=_read(analysis, "window", default.window, duration, "policy.analysis"),
        warmup=_read(spec, "warmup", default.warmup, duration, "policy"),
        latency=latency,
        errors=errors,
        confidence=_confidence(
            _mapping(
                analysis,
                "confidence",
                {"falseRollback", "missedRegression"},
                "policy.analysis",
            )
        ),
        metrics=_metrics(analysis, histograms, by_name),
        no_data_after=_read(
            _mapping(analysis, "noData", {"after", "action"}, "policy.analysis"),
            "after",
            default.no_data_after,
            duration,
            "policy.analysis.noData",
        ),
        max_duration=_read(canary, "maxDuration", default.max_duration, duration, "policy.canary"),
        min_dwell=_dwell(canary, steps),
        steps=steps,
        baseline=Baseline.NONE if canary.get("match") else Baseline(baseline),
    )
    if out.window < LEAST_WINDOW:
        raise Refused(f"policy.analysis.window: needs at least 30s, found {analysis['window']}")
    return out


def duration(text: object) -> timedelta:
    """Return a duration as Go prints it: ``1h30m``, ``2m``, ``90s``."""
    found = DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if found is None:
        raise Refused(f"needs a duration such as 90s or 2m, found {text!r}")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def share(value: object) -> float:
    """Return a fraction: ``10%`` and ``10pp`` are 0.1, a number is itself."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:%|pp)", value) if isinstance(value, str) else None
    if found is None:
        raise Refused(f"needs a share such as 10% or 0.1, found {value!r}")
    return float(found[1]) / 100


def _latency(spec: Mapping[str, Any]) -> LatencyMargin:
    where, default = "policy.analysis.margins.latency", LatencyMargin()
    out = LatencyMargin(
        _read(spec, "maxRegression", default.max_regression, share, where),
        _read(spec, "unacceptable", default.unacceptable, share, where),
    )
    _ascending(out.max_regression, out.unacceptable, where)
    return out


def _errors(spec: Mapping[str, Any]) -> ErrorMargin:
    where, default = "policy.analysis.margins.errors", ErrorMargin()
    out = ErrorMargin(
        _read(spec, "maxRegression", default.max_regression, share, where),
        _read(spec, "unacceptable", default.unacceptable, share, where),
        _read(spec, "ignoreBelow", default.ignore_below, share, where),
        _read(spec, "slo", default.slo, share, where),
    )
    _ascending(out.max_regression, out.unacceptable, where)
    if not out.ignore_below <= out.slo < 1:
        raise Refused(f"{where}: needs ignoreBelow <= slo < 100%, found {out.ignore_below:g} and {out.slo:g}")
    return out


def _ascending(max_regression: float, unacceptable: float, where: str) -> None:
    if not max_regression < unacceptable:
        raise Refused(
            f"{where}: needs maxRegression < unacceptable, found {max_regression:g} and {unacceptable:g}"
        )


def _confidence(spec: Mapping[str, Any]) -> Confidence:
    where, default = "policy.analysis.confidence", Confidence()
    out = Confidence(
        _read(spec, "falseRollback", default.false_rollback, share, where),
        _read(spec, "missedRegression", default.missed_regression, share, where),
    )
    if not (0 < out.false_rollback < 0.5 and 0 < out.missed_regression < 0.5):
        raise Refused(f"{where}: needs shares between 0 and 0.5, found {dict(spec)}")
    return out


def _steps(canary: Mapping[str, Any]) -> tuple[int, ...]:
    short = canary.get("stepWeight")
    if short is not None:
        top = canary.get("maxWeight", 50)
        if not (_is_weight(short) and _is_weight(top)) or "steps" in canary:
            raise Refused(
                "policy.canary: needs either steps or stepWeight and maxWeight within 1..99, found neither"
            )
        return tuple(sorted({*range(short, top, short), top}))
    if canary.get("match"):
        return ()  # the requests that match have no shares
    steps = canary.get("steps") or Settings().steps
    if (
        not isinstance(steps, list | tuple)
        or not all(map(_is_weight, steps))
        or sorted(set(steps)) != list(steps)
    ):
        raise Refused(f"policy.canary.steps: needs ascending whole percents within 1..99, found {steps}")
    return tuple(steps)


def _is_weight(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 99


def _dwell(canary: Mapping[str, Any], steps: tuple[int, ...]) -> timedelta:
    """Return the dwell of the last step, which promotion waits for."""
    out = _read(canary, "minDwell", Settings().min_dwell, duration, "policy.canary")
    for number, step in enumerate(canary.get("stepSettings") or ()):
        where = f"policy.canary.stepSettings[{number}]"
        if not isinstance(step, Mapping):
            raise Refused(f"{where}: needs an object, found {step!r}")
        _only(step, STEP, where)
        if steps and step.get("weight") == steps[-1]:
            out = _read(step, "minDwell", out, duration, where)
    return out


def metric_of(setting: MetricSetting, margins: Margins) -> Metric:
    """Return a metric of a policy as the judge reads it, with the margin that it names."""
    mode, given = Mode(setting.mode.value), setting.custom
    if given is None:
        return Metric(setting.name, mode, float(setting.weight))
    tolerated, unacceptable = margins[given.margin] if given.margin else (0.0, 0.0)
    custom = Custom(
        Kind(given.kind),
        given.queries,
        tolerated,
        unacceptable,
        is_points=given.margin is MarginName.QUALITY,
        is_higher_better=given.is_higher_better,
        least=given.least,
        most=given.most,
        failure_limit=given.failure_limit,
        is_consecutive=given.is_consecutive,
    )
    return Metric(setting.name, mode, float(setting.weight), custom)


def _quality(spec: Mapping[str, Any]) -> tuple[float, float]:
    where = "policy.analysis.margins.quality"
    drop, unacceptable = (
        _read(spec, field, default, share, where)
        for field, default in (("maxDrop", 0.01), ("unacceptable", 0.03))
    )
    _ascending(drop, unacceptable, where)
    return drop, unacceptable


def _metrics(
    analysis: Mapping[str, Any], histograms: tuple[str, ...], margins: Margins
) -> tuple[Metric, ...]:
    preset = analysis.get("preset") or "Auto"
    named = {
        "Auto": (ERRORS, *histograms),
        "LLM": (ERRORS, "ttft", "tpot", *histograms),
        "Predictive": (*(metric.name for metric in PREDICTIVE), *histograms),
    }
    if preset not in named:
        raise Refused(f"policy.analysis.preset: needs Auto, LLM or Predictive to replay, found {preset}")
    metrics = {name: Metric(name) for name in dict.fromkeys(named[preset])}
    for number, spec in enumerate(analysis.get("metrics") or ()):
        metric = _metric(spec, f"policy.analysis.metrics[{number}]", margins)
        metrics[metric.name] = metric
    if not any(metric.mode is Mode.ENFORCE for metric in metrics.values()):
        raise Refused("policy.analysis.metrics: needs at least one metric with mode Enforce, found none")
    return tuple(metrics.values())


def _metric(spec: object, where: str, margins: Margins) -> Metric:
    if not isinstance(spec, Mapping):
        raise Refused(f"{where}: needs an object, found {spec!r}")
    _only(spec, METRIC, where)
    for kind in KINDS:
        known = {field.alias for field in _PARTS[kind].model_fields.values() if field.alias}
        _mapping(spec, kind, known, where)
    weight = spec.get("weight", 1)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or weight <= 0:
        raise Refused(f"{where}.weight: needs a number above 0, found {weight!r}")
    try:
        setting = metric_setting(PolicyMetric.model_validate({**spec, "weight": 1}), where)
    except Malformed as error:
        raise Refused(str(error)) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join([where, *map(str, first["loc"])])
        raise Refused(f"{place}: {first['msg']}; correct the field") from error
    return replace(metric_of(setting, margins), weight=float(weight))


def _mapping(
    parent: Mapping[str, Any], field: str, known: frozenset[str] | set[str], where: str
) -> Mapping[str, Any]:
    value = parent.get(field)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Refused(f"{where}.{field}: needs an object, found {value!r}")
    _only(value, known, f"{where}.{field}")
    return value


def _only(spec: Mapping[str, Any], known: frozenset[str] | set[str], where: str) -> None:
    unknown = sorted(set(spec) - known)
    if unknown:
        raise Refused(f"{where}.{unknown[0]}: unknown field; known are {', '.join(sorted(known))}")


def _read(
    spec: Mapping[str, Any],
    field: str,
    default: T,
    parse: Callable[[object], T],
    where: str,
) -> T:
    value = spec.get(field)
    if value is None:
        return default
    try:
        return parse(value)
    except Refused as error:
        raise Refused(f"{where}.{field}: {error}") from error
