"""The real API server does what the fake one claims of it."""

import asyncio
import uuid
from typing import Any

import pytest

from modelops.clients import kinds
from modelops.clients.errors import ApiError
from modelops.clients.kinds import Resource
from modelops.clients.kube import Kube, connect
from modelops.plan import Ref
from tests.fakeapi.behaviours import BEHAVIOURS, CRD, JSON_PATCH, THING, Place, until

CRDS = Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False)
kinds.register(CRDS)


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda one: one.__name__.replace("_", " "))
def test_the_real_server_behaves_as_the_fake_one_claims(behaviour, api: Any, monkeypatch):
    monkeypatch.setattr("modelops.clients.kube.PAGE", 2)
    name = f"fakeapi-{uuid.uuid4().hex[:8]}"

    async def story() -> None:
        kube = await connect(str(api.kubeconfig))
        try:
            await kube.apply(CRD)
            await until(lambda: kube.serves(THING))
            await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            await behaviour(Place(kube, name))
        finally:
            await _clean(kube, name)
            await kube.close()

    asyncio.run(story())


async def _clean(kube: Kube, namespace: str) -> None:
    """Remove the namespace, and first what would keep it."""
    for kind in (THING, kinds.resource_of("v1", "ConfigMap")):
        async for page in kube.pages(kind, namespace):
            for item in page.items:
                wanted = Ref(kind.api_version, kind.kind, namespace, item["metadata"]["name"])
                if item["metadata"].get("finalizers"):
                    off = [{"op": "remove", "path": "/metadata/finalizers"}]
                    await kube.patch(wanted, off, JSON_PATCH)
                try:
                    await kube.delete(wanted)
                except ApiError:
                    continue
    await kube.delete(Ref("v1", "Namespace", None, namespace))
