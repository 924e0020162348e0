"""Metrics of a RolloutPolicy: the built-in ones by name, and those that it asks Prometheus for itself."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelops.api.meta import IntOrText, Malformed, Refused, Rule, Spec, Unbuilt, Word
from modelops.api.quantities import Pattern

BUILT_IN = ("errors", "ttft", "tpot", "e2e")


class MetricMode(StrEnum):
    """What a metric may do."""

    ENFORCE = "Enforce"
    REPORT = "Report"
    OFF = "Off"


class MarginName(StrEnum):
    """Which margin holds for a metric."""

    LATENCY = "latency"
    ERRORS = "errors"
    QUALITY = "quality"


class Better(StrEnum):
    """Which way a level should go."""

    HIGHER = "Higher"
    LOWER = "Lower"


KINDS = ("histogram", "ratio", "counter", "gauge", "score", "threshold")
MARGINS = {
    "histogram": (MarginName.LATENCY,),
    "ratio": (MarginName.QUALITY, MarginName.ERRORS),
    "counter": (MarginName.ERRORS,),
    "gauge": (MarginName.LATENCY,),
    "score": (MarginName.QUALITY,),
    "threshold": (),
}
"""The margins that go with a kind; the first is the one in force without a word."""
BESIDE_STABLE = ("ratio", "counter", "gauge", "score")
"""Kinds that need a stable version which answers like requests at the same time."""

ONE_KIND = (
    "a metric of your own has exactly one of histogram, ratio, counter, gauge, score and threshold; "
    "errors, ttft, tpot and e2e have none; correct it"
)
ONE_MARGIN = (
    "margin quality goes with ratio and score, errors with ratio and counter, latency with histogram and "
    "gauge; correct it"
)
SELECTS = "a query needs $SELECTOR in the braces of each metric, else it counts every version; add it"
SELECTS_CANARY = "a threshold's query needs $CANARY in the braces of its metric; add it"
FILLS = "only $SELECTOR, $CANARY and $WINDOW are filled in; remove the other names with a dollar sign"
NUMBER = r"^-?[0-9]{1,15}([.][0-9]{1,9})?$"

_NAMES = Rule(
    "!self.replace('$SELECTOR', '').replace('$CANARY', '').replace('$WINDOW', '').matches('[$][A-Za-z_{]')",
    FILLS,
)
_Text = Annotated[str, Field(min_length=1, max_length=1024)]
Query = Annotated[_Text, Rule("self.contains('$SELECTOR')", SELECTS), _NAMES]
"""PromQL; $SELECTOR stands for the label matchers of one version, $WINDOW for the length of a window."""
CanaryQuery = Annotated[_Text, Rule("self.contains('$CANARY')", SELECTS_CANARY), _NAMES]
Bound = Annotated[int | str | None, IntOrText(), Pattern(NUMBER, 1, 26)]
"""A number: whole, or as a text with a fraction."""


class Histogram(Spec):
    """A latency histogram that the serving pods expose."""

    metric: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z_:][A-Za-z0-9_:]*$")]
    """Name of the histogram without _bucket: seconds, one observation for each request."""


class Ratio(Spec):
    """Bad events of all events."""

    bad: Query
    """Counters of bad events, or with $WINDOW in it their number in a window."""
    total: Query
    """Counters of all events, or with $WINDOW in it their number in a window."""


class Counter(Spec):
    """Events without a total, compared by requests."""

    query: Query
    """Counters of events, or with $WINDOW in it their number in a window."""


class Gauge(Spec):
    """A level above 0."""

    query: Query
    """One value for each version, such as avg(tokens_per_second{$SELECTOR})."""
    better: Better
    """Higher where more is better, else Lower."""


class Score(Spec):
    """Scores from 0 to 1, more being better."""

    sum: Query
    """Counters of the summed scores, or with $WINDOW in it their sum in a window."""
    count: Query
    """Counters of the scored answers, or with $WINDOW in it their number in a window."""


class Threshold(Spec):
    """A value of the candidate that is held to fixed bounds, without statistics."""

    rules: ClassVar = (
        Rule(
            "has(self.min) || has(self.max)",
            "a threshold needs min or max; set one of them",
            "FieldValueRequired",
        ),
    )

    query: CanaryQuery
    """One value of the candidate, such as sum(increase(oom_total{$CANARY}[$WINDOW])) or vector(0)."""
    min: Bound = None
    """Least value that is good, as a whole number or a text such as '0.95'.  Absent: no bound."""
    max: Bound = None
    """Greatest value that is good, as a whole number or a text such as '0.5'.  Absent: no bound."""
    failure_limit: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Windows out of bounds that are tolerated; one more rolls back.  Absent: 0."""
    consecutive: bool | None = None
    """Whether only windows in a row count.  Absent: false, all of the run count."""


_GIVEN = f"[{', '.join(f'has(self.{kind})' for kind in KINDS)}].filter(given, given).size()"
_FITS = " && ".join(
    f"(!has(self.{kind}) || self.margin in {[str(name) for name in names]})"
    if names
    else f"!has(self.{kind})"
    for kind, names in MARGINS.items()
)


class Metric(Spec):
    """One metric, added or overridden by its name."""

    rules: ClassVar = (
        Rule(f"self.name in {list(BUILT_IN)} ? {_GIVEN} == 0 : {_GIVEN} == 1", ONE_KIND, path=".name"),
        Rule(
            f"!has(self.margin) || (!(self.name in {list(BUILT_IN)}) && {_FITS})", ONE_MARGIN, path=".margin"
        ),
    )

    name: Annotated[Word, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
    """Built-in metric: errors, ttft (first token), tpot (each further token) or e2e (whole request); or any
    other name for one of your own."""
    mode: MetricMode | None = None
    """Enforce, Report (shown, decides nothing) or Off.  Absent: Enforce; Report for a gauge."""
    weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """Share of the error budget, relative to the other metrics; a threshold has none.  Absent: 1."""
    margin: MarginName | None = None
    """Margin of a metric of your own.  Absent: quality for ratio and score, errors for counter, latency for
    histogram and gauge."""
    histogram: Histogram | None = None
    """Latency of your own, judged as the built-in ones.  Absent: another kind."""
    ratio: Ratio | None = None
    """Share of bad events, compared with the stable version's.  Absent: another kind."""
    counter: Counter | None = None
    """Events without a total; they can roll back, and no proof is asked of them.  Absent: another kind."""
    gauge: Gauge | None = None
    """Level of your own, by its ratio to the stable version's; needs 10 windows, and no proof is asked.
    Absent: another kind."""
    score: Score | None = None
    """Mean score, compared with the stable version's.  Absent: another kind."""
    threshold: Threshold | None = None
    """Fixed bounds.  Absent: another kind."""
    provider: Annotated[
        Unbuilt | None, Refused("a Prometheus per metric is not supported yet; leave provider out")
    ] = None
    """Prometheus of this metric; not supported yet."""


# --- in force ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CustomSetting:
    """What a metric of a policy's own reads, and what it is held to."""

    kind: str
    """One of KINDS."""
    queries: tuple[str, ...]
    """Its parts in order: bad and total, sum and count, else one."""
    margin: MarginName | None = None
    """None for a threshold."""
    is_higher_better: bool = True
    least: float | None = None
    most: float | None = None
    failure_limit: int = 0
    is_consecutive: bool = False


@dataclass(frozen=True, slots=True)
class MetricSetting:
    """One metric and what it may do."""

    name: str
    mode: MetricMode
    weight: int
    custom: CustomSetting | None = None
    """None for a built-in metric."""


def metric_setting(metric: Metric, path: str) -> MetricSetting:
    """Return *metric*, which stands at *path*, with every default filled in.

    Raises:
        Malformed: what the server refuses by CEL is found here too; the message begins with the path.
    """
    kinds = [kind for kind in KINDS if getattr(metric, kind) is not None]
    if len(kinds) != (metric.name not in BUILT_IN):
        raise Malformed(f"{path}.name: {ONE_KIND}")
    fitting = MARGINS[kinds[0]] if kinds else ()
    if metric.margin is not None and metric.margin not in fitting:
        raise Malformed(f"{path}.margin: {ONE_MARGIN}")
    usual = MetricMode.REPORT if "gauge" in kinds else MetricMode.ENFORCE
    custom = _custom(metric, kinds[0], path) if kinds else None
    return MetricSetting(metric.name, metric.mode or usual, metric.weight or 1, custom)


def _custom(metric: Metric, kind: str, path: str) -> CustomSetting:
    margin = metric.margin or next(iter(MARGINS[kind]), None)
    queries: tuple[str, ...]
    match kind:
        case "histogram":
            assert metric.histogram is not None
            return CustomSetting(kind, (metric.histogram.metric,), margin)
        case "ratio":
            assert metric.ratio is not None
            queries = (metric.ratio.bad, metric.ratio.total)
        case "score":
            assert metric.score is not None
            queries = (metric.score.sum, metric.score.count)
        case "counter":
            assert metric.counter is not None
            queries = (metric.counter.query,)
        case "gauge":
            assert metric.gauge is not None
            is_higher_better = metric.gauge.better is Better.HIGHER
            _check((metric.gauge.query,), "$SELECTOR", SELECTS, f"{path}.gauge")
            return CustomSetting(kind, (metric.gauge.query,), margin, is_higher_better)
        case _:
            return _threshold(metric, path)
    _check(queries, "$SELECTOR", SELECTS, f"{path}.{kind}")
    return CustomSetting(kind, queries, margin)


def _threshold(metric: Metric, path: str) -> CustomSetting:
    given, where = metric.threshold, f"{path}.threshold"
    assert given is not None
    _check((given.query,), "$CANARY", SELECTS_CANARY, where)
    least, most = _bound(given.min, f"{where}.min"), _bound(given.max, f"{where}.max")
    if least is None and most is None:
        raise Malformed(f"{where}: a threshold needs min or max; set one of them")
    if least is not None and most is not None and least > most:
        raise Malformed(f"{where}.min: wanted at most max, found {least:g} and {most:g}; correct one of them")
    return CustomSetting(
        "threshold",
        (given.query,),
        least=least,
        most=most,
        failure_limit=given.failure_limit or 0,
        is_consecutive=bool(given.consecutive),
    )


def _bound(given: int | str | None, path: str) -> float | None:
    if given is None:
        return None
    if not re.fullmatch(NUMBER[1:-1], str(given)):
        raise Malformed(f"{path}: wanted a number such as 0 or '0.95', found {given!r}; correct it")
    return float(given)


def _check(queries: tuple[str, ...], placeholder: str, sentence: str, path: str) -> None:
    for query in queries:
        if placeholder not in query:
            raise Malformed(f"{path}: {sentence}")
        rest = re.sub(r"[$](SELECTOR|CANARY|WINDOW)", "", query)
        if re.search(r"[$][A-Za-z_{]", rest):
            raise Malformed(f"{path}: {FILLS}")
