"""Kinds of others that come and go while the operator runs, on a real API server."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelops.api import names
from modelops.plan import Manifest, Ref
from tests.integration.operating import (
    MERGE,
    SERVICE,
    Pretended,
    Program,
    World,
    begin,
    definition,
    our_definitions,
)

MONITORS = definition("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors")
SETS = definition("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", "leaderworkersets")
NAMESPACE = "optional"
ABOUT_A_MINUTE = 75.0
SETTINGS = {
    "namespace": NAMESPACE,
    "watchNamespaces": [NAMESPACE],
    "prometheus": {"url": "http://127.0.0.1:1"},
    "images": {"operator": "modelops:test"},
    "podMonitor": {"interval": "15s"},
    "resync": "1h",
}


@pytest.fixture(scope="module")
def world(api: Any) -> Iterator[World]:
    world = World(api.kubeconfig)
    world.define(*our_definitions())
    meta = {"name": NAMESPACE, "labels": {names.ENVIRONMENT: "lab"}}
    world.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    with Pretended(world):
        yield world
    world.undefine(*our_definitions())


def monitor(world: World) -> Manifest | None:
    return world.get("monitoring.coreos.com/v1", "PodMonitor", NAMESPACE, "chat")


def is_ready(world: World) -> bool:
    return world.condition(NAMESPACE, "Ready").get("status") == "True"


def version_of_service(world: World) -> str:
    found = world.get(names.API_VERSION, SERVICE, NAMESPACE, "chat")
    assert found is not None
    return str(found["metadata"]["resourceVersion"])


def test_a_service_converges_without_them_and_gets_its_monitor_within_a_minute_each_time_the_kind_comes(
    world: World, tmp_path: Path
) -> None:
    begin(world, NAMESPACE)
    with Program(world.kubeconfig, tmp_path, SETTINGS) as operator:
        operator.wait(lambda: is_ready(world), 60)
        assert operator.is_well()

        world.define(MONITORS)
        came = operator.wait(lambda: monitor(world), ABOUT_A_MINUTE)
        world.delete(monitor(world) or {})
        operator.wait(lambda: monitor(world))

        before = (version_of_service(world), _failures(operator), _lines(operator))
        world.undefine(MONITORS)
        world.define(SETS)  # another kind that is watched, without any object of it
        time.sleep(20)  # in which nothing may happen but a watch that notices
        assert operator.is_well()
        assert (version_of_service(world), _failures(operator)) == before[:2]
        told = _lines(operator)[len(before[2]) :]
        assert len(told) <= 6, "\n".join(told)

        changed = {"spec": {"scaling": {"minReplicas": 2}}}
        _patch(world, changed)  # passes still do their work
        operator.wait(lambda: _replicas(world) == [2])

        world.define(MONITORS)
        again = operator.wait(lambda: monitor(world), ABOUT_A_MINUTE)
        assert operator.is_well()
        world.undefine(SETS)
        time.sleep(5)
        assert operator.is_well()
        print(f"\nthe PodMonitor came {came:.0f} s and {again:.0f} s after its kind")
    world.undefine(MONITORS)


def _failures(operator: Program) -> tuple[float, ...]:
    return tuple(
        operator.metric(name) for name in ("modelops_pass_errors_total", "modelops_observe_failures_total")
    )


def _lines(operator: Program) -> list[str]:
    return operator.log.read_text().splitlines()


def _patch(world: World, patch: Manifest) -> None:
    world.ask(lambda kube: kube.patch(Ref(names.API_VERSION, SERVICE, NAMESPACE, "chat"), patch, MERGE))


def _replicas(world: World) -> list[int]:
    return [obj["spec"]["replicas"] for obj in world.list("apps/v1", "Deployment", NAMESPACE)]
