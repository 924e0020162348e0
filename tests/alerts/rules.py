"""The alerts, what they are said to do, and what the programs export."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics import MetricWrapperBase

from modelops.clients import kube, probes
from modelops.controllers import metrics
from modelops.controllers.figures import Figures
from modelops.controllers.observations import Observations
from modelops.controllers.store import Store
from modelops.delivery import agent as delivery
from modelops.nodes import agent as nodes

FILES = tuple(sorted((Path(__file__).parents[2] / "config" / "alerts").glob("*.yaml")))
CASES: Mapping[str, Any] = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text())
TARGET = {"cluster", "namespace", "job", "pod", "instance"}
"""Labels that a scrape adds."""
OUTSIDE = {"up"}
"""What Prometheus says of a scrape."""


def groups() -> list[dict[str, Any]]:
    """Return every group of rules, as Prometheus loads them."""
    return [group for path in FILES for group in yaml.safe_load(path.read_text())["spec"]["groups"]]


def rules() -> dict[str, dict[str, Any]]:
    """Return every rule by the name of its alert."""
    return {rule["alert"]: rule for group in groups() for rule in group["rules"]}


def exported() -> dict[str, set[str]]:
    """Return the labels of every series that the operator and the agents export, by name."""
    found = {}
    for name, kind, labels in (*_counted(), *_made()):
        for suffix in {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",)):
            found[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def _counted() -> Iterator[tuple[str, str, set[str]]]:
    """Yield name, type and labels of what the operator and the agents count."""
    for module in (metrics, kube, probes, delivery, nodes):
        for one in vars(module).values():
            if isinstance(one, MetricWrapperBase):
                yield one._name, one._type, set(one._labelnames)


def _made() -> Iterator[tuple[str, str, set[str]]]:
    """Yield the same of what the leader makes at each scrape."""
    for family in Figures(Store(), Observations(lambda key: None)).collect():
        yield family.name, family.type, set(family._labelnames)


def names_in(expression: str) -> set[str]:
    """Return the metrics that an expression reads."""
    return set(re.findall(r"\b(?:modelops|process|python)_\w+|\bup\b", re.sub(r'"[^"]*"', "", expression)))


def parsed(series: str) -> tuple[str, set[str]]:
    """Return the name and the labels of a series as it stands in a case."""
    name, _, rest = series.partition("{")
    return name, set(re.findall(r'(\w+)="', rest))
