"""A first route, by the real schema: made without content, then filled under its version."""

import asyncio
import uuid
from typing import Any

import pytest
import yaml

from e2e.cluster.images import gateway_api_crds
from modelops.clients import kinds
from modelops.clients.errors import Conflict
from modelops.clients.events import Recorder
from modelops.clients.kinds import Resource
from modelops.clients.kube import Kube, connect
from modelops.controllers.execute import Executor, KindAbsent
from modelops.controllers.observations import Observations
from modelops.controllers.observe import Observer
from modelops.controllers.queue import Queue
from modelops.controllers.reading import Reading
from modelops.controllers.store import Key, OwnRow, Store
from modelops.plan import Manifest, Plan, Ref
from tests.fakeapi.behaviours import until
from tests.integration import loop_program
from tests.integration.loop_program import ROUTE

CRDS = Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False)
CRD_NAME = "httproutes.gateway.networking.k8s.io"
kinds.register(CRDS)


def route(namespace: str, owner: Manifest, weight: int) -> Manifest:
    backend = {"name": "s", "port": 80, "weight": weight}
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": owner["metadata"]["uid"]}
    return {
        "apiVersion": ROUTE.api_version,
        "kind": "HTTPRoute",
        "metadata": {
            "namespace": namespace,
            "name": "r",
            "labels": {"a": "b"},
            "ownerReferences": [{**reference, "controller": True}],
        },
        "spec": {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [backend]}]},
    }


def test_a_first_route_is_made_once_and_a_late_first_write_does_nothing(api: Any):
    namespace = f"route-{uuid.uuid4().hex[:8]}"

    async def story() -> None:
        kube = await connect(str(api.kubeconfig))
        try:
            await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            meta = {"namespace": namespace, "name": "o"}
            owner = await kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
            with pytest.raises(KindAbsent):
                await _execute(kube, owner, route(namespace, owner, 1))
            await _install(kube)
            await _execute(kube, owner, route(namespace, owner, 1))
            found = await kube.get(Ref(ROUTE.api_version, "HTTPRoute", namespace, "r"))
            assert found["spec"]["rules"][0]["backendRefs"][0]["weight"] == 1
            assert len(found["spec"]["rules"]) == 1
            with pytest.raises(Conflict):  # a replica that has not seen it
                await _execute(kube, owner, route(namespace, owner, 2))
            again = await kube.get(Ref(ROUTE.api_version, "HTTPRoute", namespace, "r"))
            assert again["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]
        finally:
            await kube.delete(Ref(CRDS.api_version, CRDS.kind, None, CRD_NAME))
            await kube.delete(Ref("v1", "Namespace", None, namespace))
            await kube.close()

    asyncio.run(story())


async def _install(kube: Kube) -> None:
    text = (gateway_api_crds() / "gateway.networking.k8s.io_httproutes.yaml").read_text()
    await kube.apply(yaml.safe_load(text))
    await until(lambda: kube.serves(ROUTE))


async def _execute(kube: Kube, owner: Manifest, wanted: Manifest) -> None:
    """Carry out a plan as a replica that has seen nothing."""
    store, queue = Store(), Queue[Key]()
    observations = Observations(queue.add)
    parts: Any = type("Parts", (), {"observations": observations})
    watched = loop_program.assemble(parts).watched
    observer = Observer(watched, store, queue, observations)
    executor = Executor(kube, store, observer, Recorder(kube, "test", "test"), watched)
    row = OwnRow.of(owner)
    reading = Reading(Key("ConfigMap", row.namespace, row.name), store, observations)
    await executor.execute(kinds.resource_of("v1", "ConfigMap"), reading, row, Plan(apply=(wanted,)))
