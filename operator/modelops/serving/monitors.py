"""How a Prometheus operator finds the pods of a service."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from modelops.api import names
from modelops.plan import Manifest
from modelops.serving.manifests import Owner, meta, service_labels

MONITOR_API = "monitoring.coreos.com/v1"


@dataclass(frozen=True, slots=True)
class Monitor:
    """What the administrator wants of every PodMonitor."""

    interval: timedelta
    labels: Mapping[str, str]
    """By which a Prometheus chooses what it scrapes."""


def pod_monitor(owner: Owner, monitor: Monitor) -> Manifest:
    """Return the PodMonitor of a service: the labels that the judge asks for, on one target per pod.

    One for all revisions, equal in all of them: a new one would be scraped only after the Prometheus operator
    has written its configuration anew and a Prometheus has read it, which may last longer than the first
    windows of a candidate.  A pod's annotation names its port of metrics, whichever engine it has.

    Source: API of the Prometheus operator, monitoring.coreos.com/v1; keepequal needs Prometheus 2.41.
    """
    relabelings: list[Manifest] = [
        {
            "action": "keepequal",
            "sourceLabels": ["__meta_kubernetes_pod_container_port_number"],
            "targetLabel": "__meta_kubernetes_pod_annotation_prometheus_io_port",
        },
        {
            "action": "labelmap",
            "regex": "__meta_kubernetes_pod_label_modelops_dev_(.+)",
            "replacement": "modelops_$1",
        },
    ]
    endpoint = {
        "path": "/metrics",
        "interval": f"{int(monitor.interval.total_seconds())}s",
        "relabelings": relabelings,
    }
    return {
        "apiVersion": MONITOR_API,
        "kind": "PodMonitor",
        "metadata": meta(owner, owner.name, {**monitor.labels, **service_labels(owner)}),
        "spec": {
            "selector": {"matchLabels": {names.SERVICE: owner.name}},
            "podMetricsEndpoints": [{"port": port, **endpoint} for port in ("metrics", "http")],
        },
    }
