"""What the scale bench measures: counts of requests, seconds of CPU, and how they stand to their goals."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FLOW = "modelops"
WRITES = ("create", "apply", "patch", "update", "delete")
_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>[^ ]+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_STREAMS = ("WATCH", "CONNECT", "WATCHLIST")

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str, prefixes: Iterable[str]) -> Samples:
    """Return the samples whose names are among *prefixes*, by name and sorted labels."""
    wanted = tuple(prefixes)
    out: Samples = {}
    for line in text.splitlines():
        found = _SAMPLE.match(line) if line.startswith(wanted) else None
        if found is not None:
            labels = tuple(sorted(_LABEL.findall(found["labels"] or "")))
            out[found["name"], labels] = float(found["value"])
    return out


def grown(before: Samples, after: Samples) -> Samples:
    """Return by how much each sample grew, without those that did not."""
    return {
        key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)
    }


def summed(found: Samples, name: str, by: str, **labels: str) -> dict[str, float]:
    """Return the sums of *name* with *labels*, by the values of the label *by*, the largest first."""
    sums: Counter[str] = Counter()
    for (sample, pairs), value in found.items():
        known = dict(pairs)
        if sample == name and labels.items() <= known.items():
            sums[known.get(by, "")] += value  # type: ignore[assignment]
    return dict(sums.most_common())


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment."""

    operator: Samples
    server: Samples
    cpu_seconds: Mapping[str, float]

    @classmethod
    def of(cls, operator: str, server: str, cpu_seconds: Mapping[str, float]) -> "Reading":
        """Return the reading of two expositions."""
        ours = samples(
            operator, ("modelops_api_requests_total", "modelops_passes_total", "modelops_pass_errors")
        )
        wanted = (
            "apiserver_flowcontrol_request_execution_seconds_",
            "apiserver_flowcontrol_request_wait_duration_seconds_sum",
            "apiserver_request_duration_seconds_sum",
            "apiserver_request_duration_seconds_count",
        )
        return cls(ours, samples(server, wanted), cpu_seconds)


def told(before: Reading, after: Reading, count: int) -> dict[str, Any]:
    """Return what happened between two readings; *count* is of services, or of versions."""
    ours, server = grown(before.operator, after.operator), grown(before.server, after.server)
    requests = "modelops_api_requests_total"
    # The Lease is renewed by time, whatever there is to do.
    ours = {key: value for key, value in ours.items() if ("kind", "Lease") not in key[1]}
    verbs = _whole(summed(ours, requests, "verb"))
    writes = sum(verbs.get(verb, 0) for verb in WRITES)
    cpu = {name: round(after.cpu_seconds[name] - before.cpu_seconds[name], 2) for name in after.cpu_seconds}
    codes = {code: n for code, n in summed(ours, requests, "code").items() if not code.startswith("2")}
    mine = {"flow_schema": FLOW}
    execution = "apiserver_flowcontrol_request_execution_seconds"
    return {
        "requests_by_verb": verbs,
        "writes": writes,
        "writes_each": round(writes / count, 2),
        "writes_by_kind": _whole(
            dict(
                sum(
                    (Counter(summed(ours, requests, "kind", verb=verb)) for verb in WRITES), Counter()
                ).most_common()
            )
        ),
        "answers_not_2xx": _whole(codes),
        "passes": _whole(summed(ours, "modelops_passes_total", "kind")),
        "pass_errors": _whole(summed(ours, "modelops_pass_errors_total", "kind")),
        "operator_cpu_s": cpu["operator"],
        "operator_cpu_ms_each": round(1000 * cpu["operator"] / count, 1),
        "server_s_for_operator": round(sum(summed(server, f"{execution}_sum", "type", **mine).values()), 2),
        "server_requests_of_operator": int(
            sum(summed(server, f"{execution}_count", "type", **mine).values())
        ),
        "server_wait_s_for_operator": round(
            sum(
                summed(
                    server, "apiserver_flowcontrol_request_wait_duration_seconds_sum", "execute", **mine
                ).values()
            ),
            2,
        ),
        "server_s_for_all_by_verb": {
            verb: round(seconds, 1)
            for verb, seconds in summed(server, "apiserver_request_duration_seconds_sum", "verb").items()
            if verb not in _STREAMS
        },
        "cpu_s": cpu,
    }


def _whole(found: Mapping[str, float]) -> dict[str, int]:
    return {name: round(value) for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that must not be larger than its limit."""

    name: str
    found: float
    limit: float

    @property
    def is_met(self) -> bool:
        return self.found <= self.limit

    def __str__(self) -> str:
        return f"{self.name} {self.found:g} {'<=' if self.is_met else '>'} {self.limit:g}"
