"""Services that are planned before anybody's pods are bound share out what is free."""

from modelops.controllers.store import Key
from tests.serving.cluster import Cluster
from tests.serving.situations import NAMESPACE, service, wanted


def places(cluster: Cluster, *services: str) -> list[str]:
    """Return the planned node of each service, or why it has none."""
    plans = [
        cluster.get("InferenceService", NAMESPACE, name)["status"]["placement"]["plan"] for name in services
    ]
    return [plan.get("node") or plan["reason"] for plan in plans]


def test_services_of_one_instant_never_count_on_the_same_gpu():
    names = [f"chat-{letter}" for letter in "abcd"]
    cluster = wanted(*(service(name) for name in names)).settle()
    assert not cluster.of("Pod") or all(
        pod["metadata"]["name"].startswith("resolve") for pod in cluster.of("Pod")
    )
    # node-b has one GPU, which is the tightest, node-a has two.
    assert places(cluster, *names) == ["node-b", "node-a", "node-a", "WaitingForCapacity"]


def test_who_waits_is_told_how_much_of_what_is_missing():
    cluster = wanted(*(service(f"chat-{letter}") for letter in "abcd")).settle()
    conditions = cluster.get("InferenceService", NAMESPACE, "chat-d")["status"]["conditions"]
    (placed,) = (condition for condition in conditions if condition["type"] == "Placed")
    assert placed["status"] == "False"
    assert placed["message"].startswith(
        "chat-d: needs 1 x NVIDIA-L4 with 22.3 GiB usable on one node, found 0 of 2 free"
    )
    assert "free 1 GPU there or add such a node" in placed["message"]


def test_promises_outlive_the_operator():
    cluster = wanted(service("chat-a"), service("chat-b"), service("chat-c")).settle()
    cluster.restart()
    cluster.keys.clear()
    cluster.put(service("chat-d")).settle()
    assert places(cluster, "chat-d") == ["WaitingForCapacity"]


def test_a_service_that_goes_takes_its_promise_with_it():
    cluster = wanted(service("chat-a"), service("chat-b"), service("chat-c")).settle()
    cluster.remove("InferenceService", NAMESPACE, "chat-b")
    cluster.put(service("chat-d")).settle()
    assert places(cluster, "chat-d") == ["node-a"]


def test_pods_that_are_bound_count_once():
    cluster = wanted(service("chat-a")).settle().start_pods().settle()
    cluster.put(service("chat-b"), service("chat-c")).settle()
    assert places(cluster, "chat-a", "chat-b", "chat-c") == ["node-b", "node-a", "node-a"]


def test_a_plan_that_waits_for_approval_promises_nothing():
    cluster = wanted(service("chat-a"), service("chat-b"), service("chat-c"))
    cluster.remove("ModelApproval", NAMESPACE, "chat-1-approve-approver")
    cluster.settle()
    assert places(cluster, "chat-a", "chat-b", "chat-c") == ["node-b", "node-b", "node-b"]


def test_every_replica_is_promised_a_place():
    several = service("chat-a", scaling={"minReplicas": 2})
    cluster = wanted(several, service("chat-b"), service("chat-c")).settle()
    # Only node-a has room for both, and pods ask for its product.
    assert places(cluster, "chat-a", "chat-b", "chat-c") == ["node-a", "node-b", "WaitingForCapacity"]


def test_planning_again_moves_nothing_and_forgets_what_is_bound():
    cluster = wanted(service("chat-a"), service("chat-b")).settle()
    before = places(cluster, "chat-a", "chat-b")
    cluster.resync()
    assert places(cluster, "chat-a", "chat-b") == before
    cluster.start_pods().settle()
    promises = cluster.roots["InferenceService"]._promises
    assert promises.unbound(Key("InferenceService", NAMESPACE, "chat-x")) == ()
    assert promises.sizes == (0, 0)
