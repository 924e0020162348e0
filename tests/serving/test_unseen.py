"""What a service says of kinds that the operator may not see, and that nothing starts or stops by it."""

from modelops.controllers.store import Unseen
from modelops.rollouts.state import Phase
from tests.serving.situations import NAMESPACE, SERVICE, pushed, ready_to_start, service, serving

DENIED = Unseen(is_absent=False, told='list Node: nodes is forbidden: User "x" cannot list resource "nodes"')


def condition(cluster, type_):
    status = cluster.get(*SERVICE)["status"]
    return next(one for one in status["conditions"] if one["type"] == type_)


def test_a_service_is_placed_once_the_nodes_are_seen_and_says_before_which_right_is_missing():
    cluster = ready_to_start()
    cluster.observer.lost("Node", DENIED)
    cluster.put(service()).settle().run(5)
    placed = condition(cluster, "Placed")
    assert (placed["status"], placed["reason"]) == ("False", "NodesUnseen")
    assert placed["message"] == (
        f"chat: needs to see nodes and ModelNodes to choose a place, found {DENIED.told}; give the operator "
        "that right: the chart's rbac.clusterReader"
    )
    assert condition(cluster, "Stalled")["reason"] == "NodesUnseen"
    assert cluster.of("Deployment") == []
    cluster.observer.regained("Node")
    cluster.settle().until("chat", Phase.STABLE)
    assert condition(cluster, "Placed")["status"] == "True"


def test_what_runs_goes_on_when_the_right_is_taken_away():
    cluster = serving()
    before = len(cluster.server.writes)
    cluster.observer.lost("Node", DENIED)
    cluster.settle().run(30)
    assert condition(cluster, "Ready")["status"] == "True"
    assert [write for write in cluster.server.writes[before:] if "InferenceService" not in write] == []


def test_a_namespace_that_is_not_read_any_more_starts_nothing_and_stops_nothing():
    cluster = pushed()
    cluster.remove("Namespace", "", NAMESPACE)
    before = [obj["metadata"]["uid"] for obj in cluster.of("Deployment")]
    cluster.settle().run(60)
    assert condition(cluster, "ModelAdmitted")["reason"] == "EnvironmentUnknown"
    assert condition(cluster, "Ready")["status"] == "True"
    assert [obj["metadata"]["uid"] for obj in cluster.of("Deployment")] == before
    assert "approval" not in cluster.get("ModelVersion", NAMESPACE, "chat-2")["status"]
