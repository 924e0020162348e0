"""GPUs on a cluster: two of them for one pod, one that breaks, and a node that is emptied under users.

The steps build on each other and run in the order they stand.
"""

from collections.abc import Iterator

import pytest

import e2e.cluster
from e2e.gpus.stage import NAMESPACE, Stage
from e2e.load.load import Load, Plan
from e2e.nvml import Machine, h100, l4
from e2e.quickstart.platform import DOMAIN, Platform

FOUR_H100 = Machine(tuple(h100(index) for index in range(4)))
EIGHT_L4 = Machine(tuple(l4(index) for index in range(8)))
FOUR_L4 = Machine(tuple(l4(index) for index in range(4)))
FALLEN_OFF = 79
"""XID of a GPU that fell off the bus."""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    cluster = e2e.cluster.open("test")
    cluster.down()
    try:
        cluster.up(background=True)
        platform = Platform(cluster)
        platform.build_images()
        cluster.gateway_address()
        platform.start_hub()
        stage = Stage(platform)
        stage.install()
        stage.open_namespace()
        yield stage
    finally:
        cluster.down()


def test_the_agents_tell_what_nvml_says(stage: Stage) -> None:
    stage.tell("n1", FOUR_H100)
    stage.tell("n2", EIGHT_L4)
    wait = stage.platform.wait
    wait("four H100", lambda: stage.node("n1").get("healthyCount") == 4, seconds=60)
    wait("eight L4", lambda: stage.node("n2").get("healthyCount") == 8, seconds=60)
    assert stage.node("n1")["product"] == "NVIDIA-H100-80GB-HBM3"


# --- two GPUs ----------------------------------------------------------------------------------------


def test_a_pod_that_needs_two_gpus_lands_on_the_node_that_has_them(stage: Stage) -> None:
    for index in range(1, 8):
        stage.platform.cluster.faults.gpu("n2", index, healthy=False)
    stage.platform.wait("one GPU left on n2", lambda: allocatable(stage, "n2") == 1, seconds=30)
    stage.serve("pair", {"count": 2})
    stage.wait_ready("pair")
    (pod,) = stage.pods("pair")
    assert pod["spec"]["nodeName"] == "n1"
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    plan = stage.plan("pair")
    assert (plan["node"], plan["gpus"]) == ("n1", 2)
    (other,) = plan["rejected"]
    assert other["product"] == "NVIDIA-L4"
    assert "2" in other["message"]


# --- a GPU that breaks -------------------------------------------------------------------------------


def test_a_gpu_with_an_xid_leaves_the_plan_and_the_plan_says_so(stage: Stage) -> None:
    stage.tell("n1", FOUR_H100.with_xid(3, FALLEN_OFF))
    stage.platform.wait("a sick GPU", lambda: stage.node("n1").get("healthyCount") == 3, seconds=60)
    sick = next(gpu for gpu in stage.node("n1")["gpus"] if gpu["index"] == 3)
    assert f"XID {FALLEN_OFF}" in sick["message"]
    # Two are taken and one is sick: one is left.
    stage.serve("second", {"count": 2})
    stage.platform.wait("second waits", lambda: stage.placed("second").get("status") == "False", seconds=60)
    told = stage.placed("second")
    assert told["reason"] == "WaitingForCapacity"
    assert f"XID {FALLEN_OFF}" in told["message"]
    assert stage.pods("second") == []
    (running,) = stage.pods("pair")  # what runs stays where it is
    assert running["spec"]["nodeName"] == "n1"


def test_once_it_was_reset_the_service_that_waited_starts(stage: Stage) -> None:
    stage.forget("n1", FOUR_H100)
    stage.wait_ready("second")
    assert stage.plan("second")["node"] == "n1"
    stage.remove("pair", "second")


# --- a node is emptied -------------------------------------------------------------------------------


def test_a_drained_node_moves_its_replicas_without_a_failed_request(stage: Stage) -> None:
    admin = stage.platform.admin
    # A second node with the same product: pods may go nowhere else.
    admin("label", "node", "n1", "nvidia.com/gpu.product=NVIDIA-L4", "nvidia.com/gpu.memory=23034",
          "--overwrite")  # fmt: skip
    stage.forget("n1", FOUR_L4)
    for index in range(1, 8):
        stage.platform.cluster.faults.gpu("n2", index, healthy=True)
    admin("cordon", "n1")
    stage.serve("moves", {"count": 1}, replicas=2)
    stage.wait_ready("moves")
    assert {pod["spec"]["nodeName"] for pod in stage.pods("moves")} == {"n2"}
    admin("uncordon", "n1")
    load = users(stage).start()
    try:
        assert load.wait_until_ramped(120)
        admin("drain", "n2", "--pod-selector=modelops.dev/service=moves", "--delete-emptydir-data",
              "--timeout=300s")  # fmt: skip
        stage.platform.wait("two pods on n1", lambda: ready_on(stage, "moves") == ["n1", "n1"], seconds=180)
    finally:
        report = load.stop()
    print(
        f"\nusers: {report.short_ok} short requests and {report.stream_ok} streams answered, "
        f"{report.short_failed + report.stream_failed} failed, {report.stream_cut} cut"
    )
    assert report.short_ok > 0
    assert report.stream_ok > 0
    assert (report.short_failed, report.stream_failed, report.stream_cut) == (0, 0, 0), report.faults[:5]
    stage.wait_ready("moves")


# --- helpers -----------------------------------------------------------------------------------------


def allocatable(stage: Stage, node: str) -> int:
    status = stage.platform.get("node", node, None)["status"]
    return int(status["allocatable"].get("nvidia.com/gpu", 0))


def ready_on(stage: Stage, service: str) -> list[str]:
    """Return the node of each ready pod."""
    return sorted(
        pod["spec"]["nodeName"]
        for pod in stage.pods(service)
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())
    )


def users(stage: Stage) -> Load:
    host, port = stage.platform.cluster.gateway_address()
    return Load(
        Plan(
            url=f"http://{host}:{port}",
            model="moves",
            host_header=f"moves.{NAMESPACE}.{DOMAIN}",
            rate=10,
            streams=10,
            spare_streams=6,
            stream_seconds=30,
            most_tokens=450,
        )
    )
