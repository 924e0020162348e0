"""RolloutPolicy: how a service goes from one version to the next, and when it goes back."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field

from modelops.api.meta import (
    Column,
    Conditions,
    Count,
    Line,
    ListMap,
    Malformed,
    Names,
    ObjectName,
    Refused,
    Resource,
    Rule,
    Spec,
    Status,
    Unbuilt,
    Word,
    refusals,
)
from modelops.api.quantities import (
    Duration,
    Pattern,
    Percent,
    Points,
    cel_percent,
    parse_duration,
    parse_percent,
    parse_points,
)

T = TypeVar("T")


class Strategy(StrEnum):
    """How the new version meets users."""

    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"
    SHADOW = "Shadow"


class Capacity(StrEnum):
    """Where the candidate's pods come from."""

    SURGE = "Surge"
    DYNAMIC_STABLE = "DynamicStable"
    RECREATE = "Recreate"


class Preset(StrEnum):
    """Which metrics judge."""

    AUTO = "Auto"
    LLM = "LLM"
    PREDICTIVE = "Predictive"
    NONE = "None"


class Baseline(StrEnum):
    """What the candidate is compared with."""

    STABLE = "Stable"
    FRESH_BASELINE = "FreshBaseline"
    NONE = "None"


class Compare(StrEnum):
    """What is compared while requests are mirrored."""

    METRICS = "Metrics"
    RESPONSES = "Responses"


class Then(StrEnum):
    """What follows the mirrored requests."""

    CANARY = "Canary"
    PROMOTE = "Promote"
    STOP = "Stop"


class RouteKind(StrEnum):
    """Kind of a route that splits by weights."""

    HTTP_ROUTE = "HTTPRoute"
    GRPC_ROUTE = "GRPCRoute"


class PinnedBy(StrEnum):
    """What keeps a client with the version that answered it first."""

    GATEWAY = "Gateway"
    COOKIE = "Cookie"


class MetricMode(StrEnum):
    """What a metric may do."""

    ENFORCE = "Enforce"
    REPORT = "Report"
    OFF = "Off"


class NoDataAction(StrEnum):
    """What to do without requests."""

    PAUSE = "Pause"
    CONTINUE = "Continue"


class UnavailableAction(StrEnum):
    """What to do at once while Prometheus does not answer."""

    FREEZE = "Freeze"


class UnavailableThen(StrEnum):
    """What to do when Prometheus has not answered for long."""

    PAUSE = "Pause"


class OnRegression(StrEnum):
    """What to do with a candidate that is worse."""

    ROLLBACK = "Rollback"
    HOLD = "Hold"


class OnInconclusive(StrEnum):
    """What to do when the time is over and nothing is proven."""

    PAUSE = "Pause"
    PROMOTE = "Promote"
    ROLLBACK = "Rollback"


class Provider(StrEnum):
    """What splits the traffic."""

    AUTO = "Auto"
    GATEWAY_API = "GatewayAPI"
    REPLICAS = "Replicas"
    EXTERNAL = "External"


# --- defaults, with their reasons in research 2.1 and 2.2; nowhere else, and never in a schema -----------

STEPS = (5, 10, 25, 50)
MAX_WEIGHT = 50
MIN_DWELL = timedelta(minutes=2)
MAX_DURATION = timedelta(hours=1)
WINDOW = timedelta(minutes=1)
SHORTEST_WINDOW = timedelta(seconds=30)
LATENCY_MARGIN = ("10%", "30%")
ERROR_MARGIN = ("25%", "100%")
ERROR_IGNORE_BELOW = "0.5%"
ERROR_SLO = "1%"
QUALITY_MARGIN = ("1pp", "3pp")
FALSE_ROLLBACK = 0.01
MISSED_REGRESSION = 0.05
MIN_REQUESTS = 500
MANUAL = "Manual"

MIRROR_PERCENT = 10
COOKIE = "modelops"
RECREATE_ALONE = (
    "with capacity Recreate the candidate takes over as soon as it is ready; remove steps, match, "
    "mirrorFirst and sessionAffinity"
)
MATCH_ALONE = "matched requests have no shares; remove steps, their settings and sessionAffinity"
RECREATE_CANARY = "capacity Recreate belongs to strategy Canary; change one of the two"
RECREATE_DECIDES = (
    "with capacity Recreate nothing serves while somebody decides; use approval.beforeStart instead"
)
NO_CANARY = "blue-green has no canary; remove canary, or set strategy to Canary"
NO_BLUE_GREEN = "blueGreen belongs to strategy BlueGreen; remove it or change the strategy"
NO_SHADOW = "shadow belongs to strategy Shadow; remove it or change the strategy"
SHADOW_ALONE = (
    "a shadow run begins with mirrored requests already; remove canary.match and canary.mirrorFirst"
)
WEIGHTS_ALONE = (
    "of a route of your own only weights are changed; remove routeRef, or shadow, canary.mirrorFirst, "
    "canary.match and canary.sessionAffinity"
)
OWN_ROUTE_NEEDS_GATEWAY = "a route of your own has a gateway; remove routeRef or set provider to GatewayAPI"
REPLICAS_ALONE = (
    "without a gateway nothing is mirrored, matched or pinned; use provider GatewayAPI, or remove shadow, "
    "canary.mirrorFirst, canary.match and canary.sessionAffinity"
)

_PRESET_METRICS = {
    Preset.LLM: ("errors", "ttft", "tpot"),
    Preset.PREDICTIVE: ("errors", "e2e"),
    Preset.NONE: (),
}

Weight = Annotated[int, Field(ge=1, le=99)]


def _or(cel: str, field: str, default: str) -> str:
    """Return CEL for the value of *field* by *cel*, or for *default* when it is absent."""
    return f"(has(self.{field}) ? {cel} : {default})"


_LAST_CEL = _or("self.maxWeight", "maxWeight", str(MAX_WEIGHT))
_DWELL_CEL = _or("duration(self.minDwell)", "minDwell", "duration('2m')")
_LONGEST_CEL = _or("duration(self.maxDuration)", "maxDuration", "duration('1h')")


# --- the kind ----------------------------------------------------------------------------------------


class StepSettings(Spec):
    """What is special about one step."""

    weight: Weight
    """Step that this is about, by its weight in percent; one of the steps."""
    min_dwell: Duration | None = None
    """Earliest raise after this step, such as 5m.  Absent: canary.minDwell."""
    pause: Annotated[str, Pattern(r"^(Manual|([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?)$", 2, 24)] | None = (
        None
    )
    """How long to pause at this step, or Manual to wait for Resume.  Absent: no pause."""
    replicas: Annotated[int, Field(ge=1, le=256)] | None = None
    """Pods of the candidate at this step.  Absent: its share of requests decides."""
    approval: bool | None = None
    """Whether the run waits at this step until somebody approves by the action Promote.  Absent: false."""


class NameValue(Spec):
    """A header or a cookie with its value."""

    name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_|~]+$")]
    """Name of the header or cookie."""
    value: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[!#-+\--:<-\[\]-~]+$")]
    """Value that it must have, letter by letter."""


class Match(Spec):
    """Requests that go to the candidate."""

    rules: ClassVar = (
        Rule(
            "has(self.header) != has(self.cookie)",
            "a match names either a header or a cookie; write two matches for two of them",
        ),
    )

    header: NameValue | None = None
    """Header that a request must have.  Absent: cookie decides."""
    cookie: NameValue | None = None
    """Cookie that a request must have; the gateway must match headers by regular expression.
    Absent: header decides."""


class SessionAffinity(Spec):
    """Whether a client stays with the version that answered it first."""

    cookie: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    """Beginning of the cookie's name; the run's name follows, so that it means nothing after the run.
    Absent: modelops."""
    max_age: Duration | None = None
    """Time after which a client is assigned anew.  Absent: 1h."""
    by: PinnedBy | None = None
    """Gateway (sessionPersistence of the route, which the GatewayClass must list) or Cookie (answers set a
    cookie and rules match it; the gateway must match headers by regular expression, and set headers of
    answers by backend).  Absent: Gateway."""


class Mirrored(Spec):
    """Requests that are copied to the candidate; its answers reach nobody."""

    percent: Annotated[int, Field(ge=1, le=100)] | None = None
    """Share of the requests that are copied, in percent.  Absent: 10."""
    duration: Duration | None = None
    """Least time for it.  Absent: 10m."""


class Canary(Spec):
    """How the candidate gets its share of requests."""

    rules: ClassVar = (
        Rule(
            "!has(self.steps) || (!has(self.stepWeight) && !has(self.maxWeight))",
            "steps are given either as a list or by stepWeight and maxWeight; remove one of the two",
            path=".steps",
        ),
        Rule(
            "!has(self.maxWeight) || has(self.stepWeight)",
            "maxWeight is the end of a series; set stepWeight beside it",
            "FieldValueRequired",
            ".stepWeight",
        ),
        Rule(
            f"!has(self.stepWeight) || self.stepWeight <= {_LAST_CEL}",
            f"stepWeight must not be above maxWeight, which is {MAX_WEIGHT} when absent; correct one of them",
            path=".stepWeight",
        ),
        Rule(
            "!has(self.stepSettings) || self.stepSettings.all(s, has(self.stepWeight)"
            f" ? s.weight == {_LAST_CEL} || (s.weight < {_LAST_CEL} && s.weight % self.stepWeight == 0)"
            f" : s.weight in {_or('self.steps', 'steps', str(list(STEPS)))})",
            "each weight of stepSettings must be one of the steps; correct the weight",
            path=".stepSettings",
        ),
        Rule(
            "!has(self.capacity) || self.capacity != 'Recreate' || (!has(self.steps) && !has(self.stepWeight)"
            " && !has(self.stepSettings) && !has(self.match) && !has(self.mirrorFirst)"
            " && !has(self.sessionAffinity))",
            RECREATE_ALONE,
            "FieldValueForbidden",
            ".capacity",
        ),
        Rule(
            "!has(self.match) || (!has(self.steps) && !has(self.stepWeight) && !has(self.stepSettings)"
            " && !has(self.sessionAffinity))",
            MATCH_ALONE,
            "FieldValueForbidden",
            ".match",
        ),
        Rule(
            f"{_DWELL_CEL} < {_LONGEST_CEL}",
            "minDwell must be shorter than maxDuration, 2m and 1h when absent; correct one of them",
            path=".minDwell",
        ),
    )

    steps: Annotated[
        Annotated[tuple[Weight, ...], Field(min_length=1, max_length=20)] | None,
        Rule(
            "self.isSorted() && self.all(step, self.exists_one(other, other == step))",
            "steps must rise strictly, from 1 to 99; sort them and name each once",
        ),
    ] = None
    """Shares of requests for the candidate, in percent; 100 follows by itself.  Absent: 5, 10, 25, 50."""
    step_settings: Annotated[tuple[StepSettings, ...], Field(max_length=20), ListMap(("weight",))] | None = (
        None
    )
    """What is special about single steps.  Absent: nothing."""
    step_weight: Weight | None = None
    """Distance of the steps, in percent, instead of a list.  Absent: steps decides."""
    max_weight: Weight | None = None
    """Last step, in percent; only with stepWeight.  Absent: 50."""
    min_dwell: Duration | None = None
    """Earliest raise after a step began, such as 5m.  Absent: 2m."""
    max_duration: Duration | None = None
    """Time after which analysis.onInconclusive is done.  Absent: 1h."""
    capacity: Capacity | None = None
    """Where the candidate's pods come from: Surge (beside all stable pods), DynamicStable (stable shrinks as
    the candidate grows) or Recreate (stable ends first, requests fail until the candidate is ready).
    Fixed when a run starts.  Absent: Surge."""
    match: Annotated[tuple[Match, ...], Field(min_length=1, max_length=8)] | None = None
    """Requests that go to the candidate, instead of a share.  Absent: shares decide."""
    session_affinity: SessionAffinity | None = None
    """Whether a client stays with one version.  Absent: each request is assigned anew."""
    mirror_first: Mirrored | None = None
    """Mirrored requests before the first step; the gateway must be able to.  Absent: none."""


def _margin_rule(first: str, second: str, defaults: tuple[str, str]) -> Rule:
    low = _or(cel_percent(f"self.{first}"), first, f"{float(defaults[0].strip('%'))}")
    high = _or(cel_percent(f"self.{second}"), second, f"{float(defaults[1].strip('%'))}")
    return Rule(
        f"{low} < {high}",
        f"{first} must be below {second}, {defaults[0]} and {defaults[1]} when absent; correct one of them",
        path=f".{first}",
    )


class LatencyMargins(Spec):
    """How much slower a candidate may be, relative to the stable version."""

    rules: ClassVar = (_margin_rule("maxRegression", "unacceptable", LATENCY_MARGIN),)

    max_regression: Percent | None = None
    """Slowdown up to which a candidate is as good as the stable version.  Absent: 10%."""
    unacceptable: Percent | None = None
    """Slowdown that must be ruled out before promotion.  Absent: 30%."""


class ErrorMargins(Spec):
    """How many more errors a candidate may make, relative to the stable version."""

    rules: ClassVar = (
        _margin_rule("maxRegression", "unacceptable", ERROR_MARGIN),
        Rule(
            f"{_or(cel_percent('self.ignoreBelow'), 'ignoreBelow', '0.5')}"
            f" <= {_or(cel_percent('self.slo'), 'slo', '1.0')}",
            "ignoreBelow must not be above slo, 0.5% and 1% when absent; correct one of them",
            path=".ignoreBelow",
        ),
    )

    max_regression: Percent | None = None
    """Rise of the error share up to which a candidate is as good.  Absent: 25%."""
    unacceptable: Percent | None = None
    """Rise of the error share that must be ruled out before promotion.  Absent: 100%."""
    ignore_below: Percent | None = None
    """Share of failed requests below which a rise does not matter.  Absent: 0.5%."""
    slo: Percent | None = None
    """Share of failed requests that users are promised.  Absent: 1%."""


class QualityMargins(Spec):
    """How much worse the answers may be."""

    max_drop: Points | None = None
    """Drop up to which a candidate is as good, such as 1pp."""
    unacceptable: Points | None = None
    """Drop that must be ruled out before promotion, such as 3pp."""


class Margins(Spec):
    """How much worse a candidate may be."""

    latency: LatencyMargins | None = None
    """How much slower.  Absent: 10% is as good, 30% is unacceptable."""
    errors: ErrorMargins | None = None
    """How many more errors.  Absent: 25% is as good, 100% unacceptable, below 0.5% no matter, SLO 1%."""
    quality: Annotated[
        QualityMargins | None,
        Refused("quality metrics are not supported yet; leave the margin for quality out"),
    ] = None
    """How much worse the answers; not supported yet."""


_BUDGET = Rule(
    "self > 0.0 && self < 0.5",
    "a budget for wrong decisions lies between 0 and 0.5, both excluded; correct it",
)


class Confidence(Spec):
    """How often the judge may be wrong."""

    false_rollback: Annotated[float | None, _BUDGET] = None
    """Probability that a good candidate is rolled back, over the whole run; and again while it bakes, where
    it is held to fixed limits.  Absent: 0.01."""
    missed_regression: Annotated[float | None, _BUDGET] = None
    """Probability that an unacceptable candidate is promoted, over the whole run.  Absent: 0.05."""


_CUSTOM_METRIC = "custom metrics are not supported yet; use errors, ttft, tpot or e2e"


class Metric(Spec):
    """One metric, added or overridden by its name."""

    name: Annotated[Word, Refused(_CUSTOM_METRIC, ("errors", "ttft", "tpot", "e2e"))]
    """Built-in metric: errors, ttft (first token), tpot (each further token) or e2e (whole request)."""
    mode: MetricMode | None = None
    """Enforce, Report (shown, decides nothing) or Off.  Absent: Enforce."""
    weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """Share of the error budget, relative to the other metrics.  Absent: 1."""
    margin: Annotated[Line | None, Refused(_CUSTOM_METRIC)] = None
    """Margin of a metric of your own; not supported yet."""
    histogram: Annotated[Unbuilt | None, Refused(_CUSTOM_METRIC)] = None
    """Histogram of your own; not supported yet."""
    ratio: Annotated[Unbuilt | None, Refused(_CUSTOM_METRIC)] = None
    """Share of bad events; not supported yet."""
    counter: Annotated[Unbuilt | None, Refused(_CUSTOM_METRIC)] = None
    """Events without a total; not supported yet."""
    gauge: Annotated[Unbuilt | None, Refused(_CUSTOM_METRIC)] = None
    """Level of your own; not supported yet."""
    score: Annotated[Unbuilt | None, Refused(_CUSTOM_METRIC)] = None
    """Mean score; not supported yet."""
    threshold: Annotated[Unbuilt | None, Refused(_CUSTOM_METRIC)] = None
    """Fixed bound; not supported yet."""
    provider: Annotated[
        Unbuilt | None, Refused("a Prometheus per metric is not supported yet; leave provider out")
    ] = None
    """Prometheus of this metric; not supported yet."""


class NoData(Spec):
    """What to do without requests."""

    after: Duration | None = None
    """Time without requests after which the action is done.  Absent: 10m."""
    action: NoDataAction | None = None
    """Pause, or Continue to wait at the same weight.  Absent: Pause."""


class MetricsUnavailable(Spec):
    """What to do while Prometheus does not answer."""

    action: UnavailableAction | None = None
    """Freeze: the weight stays.  Absent: Freeze."""
    after: Duration | None = None
    """Time after which then is done.  Absent: 1h."""
    then: UnavailableThen | None = None
    """Pause: a person must look.  Absent: Pause."""


class Analysis(Spec):
    """How a candidate is judged."""

    rules: ClassVar = (
        Rule(
            "!has(self.preset) || self.preset != 'None' || !has(self.metrics)",
            "preset None judges by no metric; remove metrics or choose another preset",
            "FieldValueForbidden",
            ".metrics",
        ),
    )

    preset: Preset | None = None
    """Metrics that judge: LLM (errors, ttft, tpot), Predictive (errors, e2e), None or Auto.  Absent: Auto."""
    window: Annotated[
        Duration | None,
        Rule(
            "duration(self) >= duration('30s') && duration(self) <= duration('1h')",
            "a window lasts from 30s to 1h, and at least two scrapes; correct it",
        ),
    ] = None
    """Time that one comparison covers, from 30s to 1h, and at least two scrape intervals.  Absent: 1m."""
    baseline: Annotated[
        Baseline | None,
        Refused(
            "a second stable version to compare with is not supported yet; set baseline to Stable or None",
            ("Stable", "None"),
        ),
    ] = None
    """What the candidate is compared with: Stable, or None for fixed limits (errors by slo, latency by what
    unacceptable makes of stable's last hour).  Matched requests and a preview have fixed limits always, and
    so has the time after the switch.  FreshBaseline is not supported yet.  Absent: Stable."""
    margins: Margins | None = None
    """How much worse a candidate may be.  Absent: the defaults of each margin."""
    confidence: Confidence | None = None
    """How often the judge may be wrong.  Absent: 0.01 and 0.05."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1, max_length=20), ListMap(("name",))] | None = (
        None
    )
    """Additions to the preset's metrics, and changes to them, by name.  Absent: the preset's alone."""
    no_data: NoData | None = None
    """What to do without requests.  Absent: pause after 10m."""
    metrics_unavailable: MetricsUnavailable | None = None
    """What to do while Prometheus does not answer.  Absent: freeze at once, pause after 1h."""
    on_regression: OnRegression | None = None
    """What to do with a candidate that is worse.  Absent: Rollback."""
    on_inconclusive: OnInconclusive | None = None
    """What to do at maxDuration without proof: Pause, Promote (no evidence of harm, and every estimate within
    unacceptable) or Rollback; the last two only when minRequests were judged.  Absent: Pause."""
    min_requests: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Requests of the candidate that must be judged before onInconclusive promotes or rolls back.
    Absent: 500."""
    retain: Annotated[
        int | None, Refused("keeping windows in status is not supported yet; leave retain out")
    ] = None
    """Windows that are kept in status; not supported yet."""


class PolicyApproval(Spec):
    """Where a run waits for a person, who lets it go on by the action Promote."""

    before_start: bool | None = None
    """Whether a run waits before its first pod; a newer version takes its place.  Absent: false."""
    before_promotion: bool | None = None
    """Whether a run waits before promotion; it is judged meanwhile.  Absent: false."""


class BlueGreen(Spec):
    """The whole candidate beside the stable version, then all requests at once."""

    preview_replicas: Annotated[int, Field(ge=1, le=256)] | None = None
    """Pods of the candidate before the switch.  Absent: as many as stable has."""
    auto_promote: bool | None = None
    """Whether it switches when the candidate is ready, warm and shows no harm; else Promote does.
    Absent: true."""
    bake: Duration | None = None
    """Time after the switch in which harm switches back to the old pods.  Absent: 10m."""


class Shadow(Spec):
    """Copies of requests to the candidate; its answers reach nobody."""

    percent: Annotated[int, Field(ge=1, le=100)] | None = None
    """Share of the requests that are copied, in percent.  Absent: 10."""
    duration: Duration | None = None
    """Least time for it.  Absent: 30m."""
    compare: Annotated[
        Compare | None,
        Refused("comparing answers is not supported yet; set compare to Metrics", ("Metrics",)),
    ] = None
    """What is compared; only Metrics is supported yet.  Absent: Metrics."""
    then: Then | None = None
    """What follows: Canary (its steps), Promote (with proof), or Stop (a person decides).  Absent: Canary."""


class RouteRef(Spec):
    """A route of your own, in the namespace of the service."""

    kind: RouteKind | None = None
    """HTTPRoute or GRPCRoute.  Absent: HTTPRoute."""
    name: ObjectName
    """Name of the route.  Its rules send to the Services <service>-stable and <service>-canary, which the
    operator makes."""


class PolicyTraffic(Spec):
    """What splits the traffic."""

    rules: ClassVar = (
        Rule(
            "!has(self.routeRef) || !has(self.provider) || self.provider != 'Replicas'",
            OWN_ROUTE_NEEDS_GATEWAY,
            "FieldValueForbidden",
            ".routeRef",
        ),
    )

    provider: Annotated[
        Provider | None,
        Refused(
            "splitting by another system is not supported yet; set provider to Auto, GatewayAPI or Replicas",
            ("Auto", "GatewayAPI", "Replicas"),
        ),
    ] = None
    """GatewayAPI (weights of a route), Replicas (numbers of pods behind one Service), or Auto: the Gateway
    API where a gateway is set.  External is not supported yet.  Absent: Auto."""
    route_ref: RouteRef | None = None
    """Route of your own, of which a run changes the weights of the rules that send to both Services of the
    service; they are given back as found when it ends.  Absent: the operator makes a route."""
    accept_timeout: Duration | None = None
    """Time for the gateway to accept a route.  Absent: 2m."""


def _is(strategy: str) -> str:
    return f"(has(self.strategy) && self.strategy == '{strategy}')"


def _is_not(strategy: str) -> str:
    return f"(!has(self.strategy) || self.strategy != '{strategy}')"


_NO_RECREATE = "(!has(self.canary) || !has(self.canary.capacity) || self.canary.capacity != 'Recreate')"


class PolicySpec(Spec):
    """How a service goes from one version to the next; an empty one is complete."""

    rules: ClassVar = (
        Rule(f"{_is_not('BlueGreen')} || !has(self.canary)", NO_CANARY, "FieldValueForbidden", ".canary"),
        Rule(
            f"{_is('BlueGreen')} || !has(self.blueGreen)", NO_BLUE_GREEN, "FieldValueForbidden", ".blueGreen"
        ),
        Rule(f"{_is('Shadow')} || !has(self.shadow)", NO_SHADOW, "FieldValueForbidden", ".shadow"),
        Rule(
            f"{_is_not('Shadow')} || !has(self.canary)"
            " || (!has(self.canary.match) && !has(self.canary.mirrorFirst))",
            SHADOW_ALONE,
            "FieldValueForbidden",
            ".canary",
        ),
        Rule(
            f"{_is_not('Shadow')} || {_NO_RECREATE}",
            RECREATE_CANARY,
            "FieldValueForbidden",
            ".strategy",
        ),
        Rule(
            f"{_NO_RECREATE} || !has(self.approval) || !has(self.approval.beforePromotion)"
            " || !self.approval.beforePromotion",
            RECREATE_DECIDES,
            "FieldValueForbidden",
            ".approval",
        ),
        Rule(
            "!has(self.traffic) || !has(self.traffic.provider) || self.traffic.provider != 'Replicas'"
            f" || ({_is_not('Shadow')} && (!has(self.canary) || (!has(self.canary.mirrorFirst)"
            " && !has(self.canary.match) && !has(self.canary.sessionAffinity))))",
            REPLICAS_ALONE,
            "FieldValueForbidden",
            ".traffic",
        ),
        Rule(
            "!has(self.traffic) || !has(self.traffic.routeRef)"
            f" || ({_is_not('Shadow')} && (!has(self.canary) || (!has(self.canary.mirrorFirst)"
            " && !has(self.canary.match) && !has(self.canary.sessionAffinity))))",
            WEIGHTS_ALONE,
            "FieldValueForbidden",
            ".traffic",
        ),
    )

    strategy: Strategy | None = None
    """How the new version meets users: Canary, BlueGreen or Shadow.  Absent: Canary."""
    suspend: bool | None = None
    """Whether weights are frozen; what protects against crashing pods stays on.  Absent: false."""
    canary: Canary | None = None
    """How the candidate gets its share.  Absent: 5, 10, 25, 50 percent, then all."""
    blue_green: BlueGreen | None = None
    """Switch of all requests at once.  Absent: full size, switched when ready and warm, baked for 10m."""
    shadow: Shadow | None = None
    """Mirrored requests.  Absent: 10 percent for 30m, then the canary's steps."""
    warmup: Duration | None = None
    """Time after readiness whose windows are no evidence.  Absent: 2m."""
    analysis: Analysis | None = None
    """How a candidate is judged.  Absent: by the preset of its runtime."""
    approval: PolicyApproval | None = None
    """Where a run waits for a person.  Absent: nowhere."""
    hooks: Annotated[
        tuple[Unbuilt, ...] | None,
        Refused("hooks are not supported yet; leave hooks out and pause at a step with pause: Manual"),
        Field(max_length=32),
    ] = None
    """Calls to other systems; not supported yet."""
    load_test: Annotated[
        Unbuilt | None, Refused("load tests are not supported yet; leave loadTest out and send load yourself")
    ] = None
    """Load during analysis; not supported yet."""
    progress_deadline: Duration | None = None
    """Time that pods may be missing, waiting for GPUs not counted, before rolling back.  Absent: 30m."""
    min_ready: Duration | None = None
    """Time that a pod must be ready before it counts.  Absent: 10s."""
    restart_limit: Annotated[int, Field(ge=0, le=100)] | None = None
    """Restarts of the candidate's containers; one more rolls back without metrics.  Absent: 3."""
    scale_down_delay: Duration | None = None
    """Time that the old version is kept after promotion.  Absent: 2m."""
    drain_timeout: Duration | None = None
    """Longest time for open streams to end.  Absent: 10m."""
    abort_scale_down_delay: Duration | None = None
    """Time that a rolled back candidate is kept.  Absent: 30s."""
    rollback_window: Annotated[int, Field(ge=0, le=20)] | None = None
    """Former revisions to which one may return without analysis.  Absent: 3."""
    traffic: PolicyTraffic | None = None
    """What splits the traffic.  Absent: the Gateway API."""

    def in_force(self) -> "Policy":
        """Return the policy with every default filled in.

        Raises:
            Malformed: a value has the wrong form, does not go with another, or is not supported yet;
                the message begins with the field path.
        """
        return _in_force(self)


class PolicyStatus(Status):
    """What the operator makes of the policy."""

    observed_generation: Count | None = None
    """The metadata.generation that this status describes."""
    conditions: Conditions = ()
    """Ready, Reconciling and Stalled."""
    strategy: Strategy | None = None
    """Strategy in force."""
    steps: Annotated[tuple[Weight, ...], Field(max_length=99)] = ()
    """Steps in force, in percent."""
    used_by_count: Count | None = None
    """Number of services that use this policy."""


class RolloutPolicy(Resource):
    """How services go from one version to the next, and when they go back."""

    names: ClassVar = Names("RolloutPolicy", "rolloutpolicies", "rpol")
    columns: ClassVar = (
        Column("Strategy", ".status.strategy"),
        Column("Used-By", ".status.usedByCount", "integer"),
        Column("Steps", ".status.steps", wide=True),
        Column("Suspended", ".spec.suspend", "boolean", wide=True),
    )

    spec: PolicySpec
    """How a service goes from one version to the next."""
    status: PolicyStatus = Field(default_factory=PolicyStatus)
    """What the operator makes of it.  Absent: not looked at yet."""


# --- the policy in force -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepSetting:
    """What is special about the step with this weight."""

    weight_percent: int
    min_dwell: timedelta
    pause: timedelta | None = None
    """None: no timed pause."""
    waits_for_resume: bool = False
    replicas: int | None = None
    needs_approval: bool = False


@dataclass(frozen=True, slots=True)
class Mirror:
    """Mirrored requests before anything else."""

    percent: int
    duration: timedelta
    then: Then = Then.CANARY


@dataclass(frozen=True, slots=True)
class Switch:
    """A blue-green switch; *preview_replicas* None is full size."""

    preview_replicas: int | None
    auto_promote: bool
    bake: timedelta


@dataclass(frozen=True, slots=True)
class Affinity:
    """How clients are pinned; the run's name follows *cookie*."""

    cookie: str
    max_age: timedelta
    by: PinnedBy = PinnedBy.GATEWAY


@dataclass(frozen=True, slots=True)
class YourRoute:
    """A route of the user's own, in the namespace of the service."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Matched:
    """A header or cookie that sends a request to the candidate."""

    name: str
    value: str
    is_cookie: bool


@dataclass(frozen=True, slots=True)
class Margin:
    """Relative change, as ratios: 0.1 is 10 % worse."""

    max_regression: float
    unacceptable: float


@dataclass(frozen=True, slots=True)
class ErrorMargin:
    """As Margin, with two shares of failed requests."""

    max_regression: float
    unacceptable: float
    ignore_below: float
    slo: float


@dataclass(frozen=True, slots=True)
class MetricSetting:
    """One metric and what it may do."""

    name: str
    mode: MetricMode
    weight: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy with every default filled in: durations as timedelta, percentages as ratios."""

    strategy: Strategy
    is_suspended: bool
    steps: tuple[int, ...]
    """Weights of the candidate in percent, strictly rising, without the final 100; none: no shares."""
    step_settings: tuple[StepSetting, ...]
    min_dwell: timedelta
    max_duration: timedelta
    capacity: Capacity
    matches: tuple[Matched, ...]
    """Requests that go to the candidate instead of a share; empty: shares."""
    affinity: Affinity | None
    mirror: Mirror | None
    """None: no request is mirrored."""
    switch: Switch | None
    """Only with strategy BlueGreen."""
    warmup: timedelta
    preset: Preset
    window: timedelta
    baseline: Baseline
    latency: Margin
    errors: ErrorMargin
    quality: Margin
    """Drops in ratios: 0.01 is one percentage point."""
    false_rollback: float
    missed_regression: float
    metrics: tuple[MetricSetting, ...]
    """Additions and overrides only; metric_settings() has all."""
    no_data_after: timedelta
    no_data_action: NoDataAction
    metrics_unavailable_after: timedelta
    on_regression: OnRegression
    on_inconclusive: OnInconclusive
    min_requests: int
    """Requests of the candidate before onInconclusive may promote or roll back."""
    progress_deadline: timedelta
    min_ready: timedelta
    restart_limit: int
    scale_down_delay: timedelta
    drain_timeout: timedelta
    abort_scale_down_delay: timedelta
    rollback_window: int
    provider: Provider
    your_route: YourRoute | None
    """None: the operator makes a route, or none splits."""
    accept_timeout: timedelta
    approves_start: bool
    approves_promotion: bool

    @property
    def asks_approval(self) -> bool:
        """Whether a person with the verb approve must let a run go on somewhere."""
        steps = any(setting.needs_approval for setting in self.step_settings)
        return self.approves_start or self.approves_promotion or steps

    def setting(self, weight_percent: int) -> StepSetting:
        """Return what holds at the step with this weight."""
        for setting in self.step_settings:
            if setting.weight_percent == weight_percent:
                return setting
        return StepSetting(weight_percent, self.min_dwell)

    def metric_settings(self, runtime: Preset) -> tuple[MetricSetting, ...]:
        """Return all metrics: the preset's, then additions; *runtime* says what Auto means."""
        preset = runtime if self.preset is Preset.AUTO else self.preset
        settings = {name: MetricSetting(name, MetricMode.ENFORCE, 1) for name in _PRESET_METRICS[preset]}
        return tuple((settings | {metric.name: metric for metric in self.metrics}).values())


def _read(parse: Callable[[str], T], path: str, text: str | None, default: str) -> T:
    try:
        return parse(default if text is None else text)
    except ValueError as error:
        raise Malformed(f"spec.{path}: {error}; correct the field") from error


def _duration(path: str, text: str | None, default: str) -> timedelta:
    return _read(parse_duration, path, text, default)


def _percent(path: str, text: str | None, default: str) -> float:
    return _read(parse_percent, path, text, default)


def _require(holds: bool, path: str, sentence: str) -> None:
    if not holds:
        raise Malformed(f"spec.{path}: {sentence}")


def _in_force(spec: PolicySpec) -> Policy:
    for refusal in refusals(spec):
        raise Malformed(refusal)
    _goes_together(spec)
    canary, analysis, traffic = (
        spec.canary or Canary(),
        spec.analysis or Analysis(),
        spec.traffic or PolicyTraffic(),
    )
    confidence, approval = analysis.confidence or Confidence(), spec.approval or PolicyApproval()
    no_data, away = analysis.no_data or NoData(), analysis.metrics_unavailable or MetricsUnavailable()
    steps, min_dwell = _steps(spec, canary), _duration("canary.minDwell", canary.min_dwell, "2m")
    return Policy(
        strategy=spec.strategy or Strategy.CANARY,
        is_suspended=bool(spec.suspend),
        steps=steps,
        step_settings=_settings(canary, steps, min_dwell),
        min_dwell=min_dwell,
        max_duration=_max_duration(canary, min_dwell),
        capacity=canary.capacity or Capacity.SURGE,
        matches=_matches(canary),
        affinity=_affinity(canary),
        mirror=_mirror(spec, canary),
        switch=_switch(spec),
        warmup=_duration("warmup", spec.warmup, "2m"),
        preset=analysis.preset or Preset.AUTO,
        window=_window(analysis),
        baseline=analysis.baseline or Baseline.STABLE,
        latency=_latency(analysis),
        errors=_errors(analysis),
        quality=Margin(*(parse_points(text) for text in QUALITY_MARGIN)),
        false_rollback=_budget("falseRollback", confidence.false_rollback, FALSE_ROLLBACK),
        missed_regression=_budget("missedRegression", confidence.missed_regression, MISSED_REGRESSION),
        metrics=_metrics(analysis),
        no_data_after=_duration("analysis.noData.after", no_data.after, "10m"),
        no_data_action=no_data.action or NoDataAction.PAUSE,
        metrics_unavailable_after=_duration("analysis.metricsUnavailable.after", away.after, "1h"),
        on_regression=analysis.on_regression or OnRegression.ROLLBACK,
        on_inconclusive=analysis.on_inconclusive or OnInconclusive.PAUSE,
        min_requests=_min_requests(analysis),
        progress_deadline=_duration("progressDeadline", spec.progress_deadline, "30m"),
        min_ready=_duration("minReady", spec.min_ready, "10s"),
        restart_limit=3 if spec.restart_limit is None else spec.restart_limit,
        scale_down_delay=_duration("scaleDownDelay", spec.scale_down_delay, "2m"),
        drain_timeout=_duration("drainTimeout", spec.drain_timeout, "10m"),
        abort_scale_down_delay=_duration("abortScaleDownDelay", spec.abort_scale_down_delay, "30s"),
        rollback_window=3 if spec.rollback_window is None else spec.rollback_window,
        provider=traffic.provider or Provider.AUTO,
        your_route=_your_route(traffic.route_ref),
        accept_timeout=_duration("traffic.acceptTimeout", traffic.accept_timeout, "2m"),
        approves_start=bool(approval.before_start),
        approves_promotion=bool(approval.before_promotion),
    )


def _goes_together(spec: PolicySpec) -> None:
    """Refuse what does not go together, for objects that never met admission."""
    strategy, canary = spec.strategy or Strategy.CANARY, spec.canary or Canary()
    is_blue_green, is_shadow = strategy is Strategy.BLUE_GREEN, strategy is Strategy.SHADOW
    has_steps = any((canary.steps, canary.step_weight, canary.step_settings))
    is_alone = not any((has_steps, canary.match, canary.mirror_first, canary.session_affinity))
    recreates = canary.capacity is Capacity.RECREATE
    decides = bool(spec.approval and spec.approval.before_promotion)
    by_pods = bool(spec.traffic and spec.traffic.provider is Provider.REPLICAS)
    shapes = any((is_shadow, canary.mirror_first, canary.match, canary.session_affinity))
    _require(not (is_blue_green and spec.canary), "canary", NO_CANARY)
    _require(is_blue_green or spec.blue_green is None, "blueGreen", NO_BLUE_GREEN)
    _require(is_shadow or spec.shadow is None, "shadow", NO_SHADOW)
    _require(not is_shadow or not (canary.match or canary.mirror_first), "canary", SHADOW_ALONE)
    _require(not (is_shadow and recreates), "strategy", RECREATE_CANARY)
    _require(not recreates or is_alone, "canary.capacity", RECREATE_ALONE)
    _require(not (recreates and decides), "approval", RECREATE_DECIDES)
    _require(not canary.match or not (has_steps or canary.session_affinity), "canary.match", MATCH_ALONE)
    _require(not (by_pods and shapes), "traffic", REPLICAS_ALONE)
    is_yours = bool(spec.traffic and spec.traffic.route_ref)
    _require(not (is_yours and by_pods), "traffic.routeRef", OWN_ROUTE_NEEDS_GATEWAY)
    _require(not (is_yours and shapes), "traffic", WEIGHTS_ALONE)


def _your_route(given: RouteRef | None) -> YourRoute | None:
    return None if given is None else YourRoute(str(given.kind or RouteKind.HTTP_ROUTE), given.name)


def _matches(canary: Canary) -> tuple[Matched, ...]:
    found = []
    for i, match in enumerate(canary.match or ()):
        one = match.header or match.cookie
        if one is None or (match.header and match.cookie):
            raise Malformed(f"spec.canary.match[{i}]: wanted either a header or a cookie; correct it")
        found.append(Matched(one.name, one.value, is_cookie=match.header is None))
    return tuple(found)


def _affinity(canary: Canary) -> Affinity | None:
    given = canary.session_affinity
    if given is None:
        return None
    age = _duration("canary.sessionAffinity.maxAge", given.max_age, "1h")
    return Affinity(given.cookie or COOKIE, age, given.by or PinnedBy.GATEWAY)


def _mirror(spec: PolicySpec, canary: Canary) -> Mirror | None:
    """Return what is mirrored: the whole of a shadow run, or what stands before a canary's first step."""
    if spec.strategy is Strategy.SHADOW:
        given = spec.shadow or Shadow()
        duration = _duration("shadow.duration", given.duration, "30m")
        return Mirror(given.percent or MIRROR_PERCENT, duration, given.then or Then.CANARY)
    first = canary.mirror_first
    if first is None:
        return None
    duration = _duration("canary.mirrorFirst.duration", first.duration, "10m")
    return Mirror(first.percent or MIRROR_PERCENT, duration)


def _switch(spec: PolicySpec) -> Switch | None:
    if spec.strategy is not Strategy.BLUE_GREEN:
        return None
    given = spec.blue_green or BlueGreen()
    is_automatic = True if given.auto_promote is None else given.auto_promote
    return Switch(given.preview_replicas, is_automatic, _duration("blueGreen.bake", given.bake, "10m"))


def _steps(spec: PolicySpec, canary: Canary) -> tuple[int, ...]:
    """Return the weights that a run takes; none where it has no shares."""
    then = (spec.shadow.then if spec.shadow else None) or Then.CANARY
    has_no_share = canary.match or canary.capacity is Capacity.RECREATE or then is not Then.CANARY
    steps = _weights(canary)
    return () if spec.strategy is Strategy.BLUE_GREEN or has_no_share else steps


def _weights(canary: Canary) -> tuple[int, ...]:
    series = canary.step_weight is not None or canary.max_weight is not None
    _require(
        not (series and canary.steps), "canary.steps", "stands beside stepWeight or maxWeight; remove one"
    )
    if not series:
        steps = canary.steps or STEPS
        rises = all(low < high for low, high in pairwise((0, *steps, 100)))
        _require(
            rises,
            "canary.steps",
            f"wanted strictly rising weights from 1 to 99, found {list(steps)}; sort them",
        )
        return steps
    step, last = canary.step_weight, canary.max_weight or MAX_WEIGHT
    if step is None or step > last:
        raise Malformed(f"spec.canary.stepWeight: wanted 1 to maxWeight {last}, found {step}; correct it")
    return (*range(step, last, step), last)


def _settings(canary: Canary, steps: tuple[int, ...], min_dwell: timedelta) -> tuple[StepSetting, ...]:
    settings = []
    for i, given in enumerate(canary.step_settings or ()):
        path = f"canary.stepSettings[{i}]"
        _require(
            given.weight in steps,
            f"{path}.weight",
            f"{given.weight} is none of the steps {list(steps)}; correct it",
        )
        waits = given.pause == MANUAL
        pause = None if waits or given.pause is None else _duration(f"{path}.pause", given.pause, "0s")
        dwell = min_dwell if given.min_dwell is None else _duration(f"{path}.minDwell", given.min_dwell, "2m")
        settings.append(
            StepSetting(
                given.weight,
                dwell,
                pause,
                waits_for_resume=waits,
                replicas=given.replicas,
                needs_approval=bool(given.approval),
            )
        )
    return tuple(settings)


def _max_duration(canary: Canary, min_dwell: timedelta) -> timedelta:
    longest = _duration("canary.maxDuration", canary.max_duration, "1h")
    _require(
        min_dwell < longest, "canary.minDwell", "wanted a time shorter than maxDuration; correct one of them"
    )
    return longest


def _window(analysis: Analysis) -> timedelta:
    window = _duration("analysis.window", analysis.window, "1m")
    fits = SHORTEST_WINDOW <= window <= timedelta(hours=1)
    _require(fits, "analysis.window", f"wanted 30s to 1h, found {analysis.window}; correct it")
    return window


def _latency(analysis: Analysis) -> Margin:
    given = (analysis.margins or Margins()).latency or LatencyMargins()
    path = "analysis.margins.latency"
    return Margin(*_ordered(path, given.max_regression, given.unacceptable, LATENCY_MARGIN))


def _errors(analysis: Analysis) -> ErrorMargin:
    given = (analysis.margins or Margins()).errors or ErrorMargins()
    path = "analysis.margins.errors"
    ignore_below = _percent(f"{path}.ignoreBelow", given.ignore_below, ERROR_IGNORE_BELOW)
    slo = _percent(f"{path}.slo", given.slo, ERROR_SLO)
    _require(ignore_below <= slo, f"{path}.ignoreBelow", "wanted at most slo; correct one of them")
    low, high = _ordered(path, given.max_regression, given.unacceptable, ERROR_MARGIN)
    return ErrorMargin(low, high, ignore_below, slo)


def _min_requests(analysis: Analysis) -> int:
    given = MIN_REQUESTS if analysis.min_requests is None else analysis.min_requests
    _require(given >= 1, "analysis.minRequests", f"wanted 1 or more requests, found {given}; correct it")
    return given


def _ordered(path: str, low: str | None, high: str | None, defaults: tuple[str, str]) -> tuple[float, float]:
    max_regression = _percent(f"{path}.maxRegression", low, defaults[0])
    unacceptable = _percent(f"{path}.unacceptable", high, defaults[1])
    _require(
        max_regression < unacceptable,
        f"{path}.maxRegression",
        "wanted less than unacceptable; correct one of them",
    )
    return max_regression, unacceptable


def _budget(name: str, given: float | None, default: float) -> float:
    value = default if given is None else given
    _require(
        0 < value < 0.5,
        f"analysis.confidence.{name}",
        f"wanted more than 0 and less than 0.5, found {value}; correct it",
    )
    return value


def _metrics(analysis: Analysis) -> tuple[MetricSetting, ...]:
    given = analysis.metrics or ()
    judged = analysis.preset is not Preset.NONE or not given
    _require(
        judged, "analysis.metrics", "preset None judges by no metric; remove metrics or choose another preset"
    )
    return tuple(MetricSetting(m.name, m.mode or MetricMode.ENFORCE, m.weight or 1) for m in given)
