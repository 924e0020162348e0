"""Say in PromQL which raw series are judged, and read what Prometheus answers.

Only raw series are asked for.  ``increase`` and ``histogram_quantile`` extrapolate to counts that
never were, so differences are taken per pod in ``samples``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from modelops.analysis.samples import REVISION_LABEL, PodSeries, Scrapes

SELECTOR, CANARY, WINDOW = "$SELECTOR", "$CANARY", "$WINDOW"
"""What a query of a policy may leave to be filled in: label matchers of each version or of the new one,
and the length of a window."""


@dataclass(frozen=True, slots=True)
class Selector:
    """The pods of one service in some revisions."""

    namespace: str
    service: str
    revisions: tuple[str, ...]

    def matchers(self) -> str:
        """Return the label matchers, without braces."""
        revisions = _quote("|".join(_literal(revision) for revision in self.revisions))
        return (
            f"namespace={_quote(self.namespace)},modelops_service={_quote(self.service)},"
            f"{REVISION_LABEL}=~{revisions}"
        )


class Raw(Protocol):
    """One counter, or the buckets of one histogram, with the engine's own label matchers."""

    @property
    def name(self) -> str:
        """Return the metric's name, for a histogram with its ``_bucket`` suffix."""

    @property
    def matchers(self) -> str:
        """Return matchers as ``a="b",c="d"``; empty without any."""


NO_MORE: Mapping[str, Raw] = MappingProxyType({})


class EngineQueries(Protocol):
    """What an engine calls its requests, failures and latencies; None where it has no such histogram.

    ``requests`` counts ended requests without those the client left.  Each entry of ``errors`` is a
    count of the failures among them by itself: the judge takes the largest.  Latencies are
    histograms with one observation per request.
    """

    @property
    def requests(self) -> Raw:
        """Return the counter of ended requests."""

    @property
    def errors(self) -> Sequence[Raw]:
        """Return the counters of failures."""

    @property
    def ttft(self) -> Raw | None:
        """Return the time to the first token."""

    @property
    def tpot(self) -> Raw | None:
        """Return the time per output token after the first, one value per request."""

    @property
    def e2e(self) -> Raw | None:
        """Return the time of the whole request."""


def histograms(queries: EngineQueries) -> dict[str, Raw]:
    """Return an engine's latency histograms by metric name."""
    named = {"ttft": queries.ttft, "tpot": queries.tpot, "e2e": queries.e2e}
    return {metric: raw for metric, raw in named.items() if raw}


def range_query(raw: Raw, selector: Selector) -> str:
    """Return the query of one range request; its step is the scrape interval."""
    matchers = ",".join(part for part in (raw.matchers, selector.matchers()) if part)
    return f"{raw.name}{{{matchers}}}"


@dataclass(frozen=True, slots=True)
class Buckets:
    """The buckets of a histogram of a policy's own."""

    name: str
    matchers: str = ""


def filled(text: str, selector: Selector, window_seconds: int) -> str:
    """Return a query of a policy for the pods of *selector*, which is of one version."""
    matchers = selector.matchers()
    text = text.replace(SELECTOR, matchers).replace(CANARY, matchers)
    return text.replace(WINDOW, f"{window_seconds}s")


def texts(queries: EngineQueries, selector: Selector, more: Mapping[str, Raw] = NO_MORE) -> tuple[str, ...]:
    """Return every query of an engine once, in the order ``assemble`` expects the answers by text.

    *more* are histograms of a policy's own by metric.
    """
    raws = (queries.requests, *queries.errors, *histograms(queries).values(), *more.values())
    return tuple(dict.fromkeys(range_query(raw, selector) for raw in raws))


def assemble(
    queries: EngineQueries,
    selector: Selector,
    answers: Mapping[str, Sequence[PodSeries]],
    more: Mapping[str, Raw] = NO_MORE,
) -> Scrapes:
    """Return the answers, which are given by query text, sorted by what they count."""
    return Scrapes(
        requests=answers[range_query(queries.requests, selector)],
        errors=tuple(answers[range_query(raw, selector)] for raw in queries.errors),
        latency={
            metric: answers[range_query(raw, selector)]
            for metric, raw in {**histograms(queries), **more}.items()
        },
    )


def read(answer: Mapping[str, Any]) -> list[PodSeries]:
    """Return the series of an answer of /api/v1/query_range or /api/v1/query, or of its ``data``.

    NaN and infinities are kept as NaN, so that a sample that cannot be used differs from none.

    Raises:
        ValueError: the answer is an error, or holds neither a matrix nor a vector.
    """
    if answer.get("status", "success") != "success":
        raise ValueError(f"Prometheus: wanted series, found {answer.get('error', 'an error without a text')}")
    data = answer.get("data", answer)
    kind = data.get("resultType") if isinstance(data, Mapping) else None
    if kind not in ("matrix", "vector"):
        raise ValueError(f"Prometheus: wanted a matrix or a vector, found {kind}; ask for raw series")
    return [_series(one) for one in data["result"]]


def _series(one: Mapping[str, Any]) -> PodSeries:
    pairs = one["values"] if "values" in one else [one["value"]]
    return PodSeries(dict(one["metric"]), tuple((float(t), _number(text)) for t, text in pairs))


def _number(text: str) -> float:
    value = float(text)
    return value if abs(value) < float("inf") else float("nan")


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _literal(text: str) -> str:
    """Return *text* as a regular expression that matches only itself."""
    return "".join(char if char.isalnum() or char in "-_" else f"\\{char}" for char in text)
