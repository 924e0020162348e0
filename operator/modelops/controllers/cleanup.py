"""Remove the PersistentVolumes of models when the chart is gone: nothing else takes them along."""

import argparse
import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Collection

from modelops.api import names
from modelops.clients.errors import ApiError
from modelops.clients.kinds import resource_of
from modelops.clients.kube import Kube, connect
from modelops.controllers.lease import LEASE_API
from modelops.plan import Manifest, Ref

log = logging.getLogger(__name__)

OURS = f"{names.MANAGED_BY}={names.MANAGED_BY_VALUE},{names.DIGEST}"
_VOLUMES = resource_of("v1", "PersistentVolume")
_LOOK_SECONDS = 3.0
_PATIENCE_SECONDS = 120.0


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the program ``modelops cleanup``."""
    parser = subparsers.add_parser("cleanup", help="remove what an uninstall leaves", description=__doc__)
    parser.add_argument("--lease", required=True, metavar="NAMESPACE/NAME", help="the Lease of the operator")
    parser.add_argument(
        "--namespace",
        action="append",
        default=[],
        help="only volumes for this namespace; may be repeated (all)",
    )
    parser.add_argument("--kubeconfig", metavar="FILE", help="default: the service account, else KUBECONFIG")


def run(args: argparse.Namespace) -> int:
    """Remove them; return 1 when the cluster says no, or somebody makes them again and again."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    namespace, _, name = args.lease.partition("/")
    try:
        asyncio.run(clean(Ref(LEASE_API, "Lease", namespace, name), args.namespace, args.kubeconfig))
    except TimeoutError:
        told = (
            "volumes: need an operator that ended, found one that makes them again; scale it to 0 and repeat"
        )
        print(f"modelops cleanup: {told}", file=sys.stderr)
        return 1
    except ApiError as error:
        print(f"modelops cleanup: {error}", file=sys.stderr)
        return 1
    return 0


async def clean(lease: Ref, namespaces: Collection[str], kubeconfig: str | None = None) -> None:
    """Remove the volumes for *namespaces*, or all of ours, and the operator's Lease.

    Looks again until nothing came back: the operator's last pods may be on their way out.  A volume that
    a claim holds goes once its claim does, so pods that run keep their model.

    Raises:
        TimeoutError: an operator runs on.
        ApiError: the server refused.
    """
    kube = await connect(kubeconfig)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await _remove(kube, namespaces)
            await asyncio.sleep(_LOOK_SECONDS)
            while await _remove(kube, namespaces):
                await asyncio.sleep(_LOOK_SECONDS)
        await kube.delete(lease)
    finally:
        await kube.close()


async def _remove(kube: Kube, namespaces: Collection[str]) -> int:
    """Delete what is not going yet; return how many those were."""
    found = [volume async for volume in _ours(kube, namespaces)]
    for volume in found:
        meta = volume["metadata"]
        await kube.delete(Ref("v1", "PersistentVolume", None, meta["name"], meta["uid"]))
        log.info("PersistentVolume %s: removed", meta["name"])
    return len(found)


async def _ours(kube: Kube, namespaces: Collection[str]) -> AsyncIterator[Manifest]:
    async for page in kube.pages(_VOLUMES, labels=OURS):
        for volume in page.items:
            wanted = not namespaces or volume["spec"].get("claimRef", {}).get("namespace") in namespaces
            if wanted and "deletionTimestamp" not in volume["metadata"]:
                yield volume
