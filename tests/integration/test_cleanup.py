"""What is left of a cluster's volumes when the chart is gone, on a real API server."""

import argparse
import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from modelops.api import names
from modelops.clients.errors import NotFound
from modelops.clients.kube import Kube, connect
from modelops.controllers import cleanup
from modelops.plan import Ref, ref

T = TypeVar("T")
LEASE = Ref("coordination.k8s.io/v1", "Lease", "default", f"modelops-{uuid.uuid4().hex[:6]}")
DIGEST = "sha256:" + "cd" * 32
OURS = names.managed_labels(**{names.DIGEST: names.digest_label(DIGEST)})


@pytest.fixture
def ask(api: Any) -> Callable[[Callable[[Kube], Awaitable[T]]], T]:
    """Run a function of a connection to the API server and return what it returns."""

    def run(question: Callable[[Kube], Awaitable[T]]) -> T:
        async def main() -> T:
            kube = await connect(str(api.kubeconfig))
            try:
                return await question(kube)
            finally:
                await kube.close()

        return asyncio.run(main())

    return run


def volume(namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"cleanup-{uuid.uuid4().hex[:8]}", "labels": labels},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": namespace, "name": "model"},
            "hostPath": {"path": "/var/lib/modelops/store/x", "type": "DirectoryOrCreate"},
        },
    }


def cleaned(api: Any, *words: str) -> int:
    """Run ``modelops cleanup`` and return its exit status."""
    parser = argparse.ArgumentParser()
    cleanup.add(parser.add_subparsers())
    given = ["cleanup", f"--lease={LEASE.namespace}/{LEASE.name}", f"--kubeconfig={api.kubeconfig}", *words]
    return cleanup.run(parser.parse_args(given))


async def is_gone(kube: Kube, obj: dict[str, Any]) -> bool:
    """Return whether the object is gone, once it is not on its way out."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            stored = await kube.get(ref(obj))
        except NotFound:
            return True
        if "deletionTimestamp" not in stored["metadata"]:
            return False
        await asyncio.sleep(0.2)
    raise TimeoutError(f"{obj['metadata']['name']}: is on its way out for 20 s")


def name(*volumes: dict[str, Any]) -> list[str]:
    return [obj["metadata"]["name"] for obj in volumes]


def test_only_volumes_of_the_operator_go_and_with_them_its_lease(api: Any, ask: Any) -> None:
    here, there = volume("team-a", OURS), volume("team-b", OURS)
    strange = volume("team-a", {names.MANAGED_BY: "somebody-else", names.DIGEST: "x"})
    unmarked = volume("team-a", names.managed_labels())
    everything = [here, there, strange, unmarked]
    lease = {
        "apiVersion": LEASE.api_version,
        "kind": "Lease",
        "metadata": {"namespace": LEASE.namespace, "name": LEASE.name},
        "spec": {"holderIdentity": "gone"},
    }

    async def create(kube: Kube) -> None:
        for obj in (*everything, lease):
            await kube.create(obj)

    async def found(kube: Kube) -> list[str]:
        left = [obj for obj in everything if not await is_gone(kube, obj)]
        return name(*left)

    ask(create)
    try:
        assert cleaned(api, "--namespace=team-a") == 0
        assert ask(found) == name(there, strange, unmarked)
        assert ask(lambda kube: is_gone(kube, lease))
        assert cleaned(api) == 0
        assert ask(found) == name(strange, unmarked)
    finally:

        async def remove(kube: Kube) -> None:
            for obj in everything:
                await kube.delete(ref(obj))

        ask(remove)
