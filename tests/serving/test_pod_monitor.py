"""One PodMonitor for each service, where somebody asked for it."""

from typing import Any

from modelops.controllers.store import Unseen
from modelops.rollouts.state import Phase
from tests.serving.cluster import SETTINGS, Cluster
from tests.serving.situations import NAMESPACE, pushed, ready_to_start, service, serving

ASKED: dict[str, Any] = {**SETTINGS, "podMonitor": {"interval": "20s", "labels": {"release": "prometheus"}}}


def monitored() -> Cluster:
    cluster = pushed()
    cluster.restart(ASKED)
    return cluster.measure().settle()


def test_a_service_gets_one_that_no_rollout_changes():
    cluster = monitored()
    (first,) = cluster.of("PodMonitor")
    cluster.until("chat", Phase.STABLE).run(60)
    (last,) = cluster.of("PodMonitor")
    assert last == first
    assert first["metadata"]["labels"]["release"] == "prometheus"
    assert first["spec"]["selector"] == {"matchLabels": {"modelops.dev/service": "chat"}}
    endpoints = first["spec"]["podMetricsEndpoints"]
    assert [(one["port"], one["interval"]) for one in endpoints] == [("metrics", "20s"), ("http", "20s")]


def test_of_a_pods_ports_only_the_one_that_its_annotation_names_becomes_a_target_with_the_judges_labels():
    """As Prometheus relabels; the judge selects by these labels."""
    cluster = monitored()
    (monitor,) = cluster.of("PodMonitor")
    (deployment, *_) = cluster.of("Deployment")
    template = deployment["spec"]["template"]
    port = template["metadata"]["annotations"]["prometheus.io/port"]
    every = [*template["spec"]["containers"], *template["spec"]["initContainers"]]
    ports = {p["name"]: str(p["containerPort"]) for c in every for p in c.get("ports", ())}
    targets = [
        ports[one["port"]]
        for one in monitor["spec"]["podMetricsEndpoints"]
        if one["relabelings"][0]["action"] == "keepequal" and ports.get(one["port"]) == port
    ]
    assert targets == [port]
    mapped = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"][1]
    assert mapped["regex"].replace("(.+)", "revision") == "__meta_kubernetes_pod_label_modelops_dev_revision"
    assert mapped["replacement"].replace("$1", "revision") == "modelops_revision"


def test_without_the_kind_the_service_serves_and_the_monitor_comes_when_the_kind_does():
    cluster = ready_to_start()
    cluster.restart(ASKED)
    cluster.observer.lost("PodMonitor", Unseen(is_absent=True, told="not found"))
    cluster.put(service()).settle().until("chat", Phase.STABLE)
    assert cluster.of("PodMonitor") == []
    cluster.observer.regained("PodMonitor")
    cluster.settle()
    assert len(cluster.of("PodMonitor")) == 1


def test_those_that_were_made_go_when_nobody_asks_for_them_any_more():
    cluster = monitored()
    cluster.restart(SETTINGS)
    cluster.measure().settle()
    assert cluster.of("PodMonitor") == []
    assert serving().of("PodMonitor") == []


def test_one_that_somebody_deletes_comes_back():
    cluster = monitored()
    cluster.remove("PodMonitor", NAMESPACE, "chat").settle()
    assert len(cluster.of("PodMonitor")) == 1
