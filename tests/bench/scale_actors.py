"""Who acts in the scale bench beside the operator: people who make objects, and the agents of the nodes."""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelops.api import names
from modelops.api.names import API_VERSION
from modelops.clients.errors import NotFound
from modelops.clients.kinds import Resource, resource_of
from modelops.clients.kube import Kube, connect
from modelops.delivery import report
from modelops.delivery.cache import Disk
from modelops.delivery.report import Artifact
from modelops.delivery.wants import pod_of, version_of
from modelops.delivery.watch import follow
from modelops.plan import Manifest
from tests.bench.scale_objects import CHILDREN

AT_ONCE = 16
TELL_SECONDS, STALL_SECONDS = 5.0, 120.0
_MANAGED = f"{names.MANAGED_BY}={names.MANAGED_BY_VALUE}"
_DISK = Disk(total_bytes=2**40, free_bytes=2**39)
_TICK_SECONDS = 0.5
_LOOK_SECONDS = 0.2


class Unfinished(Exception):
    """Something did not come to be in time; the text says how far it got."""


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Kube]:
    """Yield a connection that is not held back."""
    kube = await connect(str(kubeconfig), in_flight=AT_ONCE)
    try:
        yield kube
    finally:
        await kube.close()


async def create(kube: Kube, manifests: Iterable[Manifest]) -> None:
    """Create objects, several at a time."""
    waiting = iter(list(manifests))

    async def work() -> None:
        for manifest in waiting:
            await kube.create(manifest)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


def holds(obj: Manifest, type_: str) -> bool:
    """Return whether a condition is True."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(one["type"] == type_ and one["status"] == "True" for one in conditions)


@dataclass
class Seen:
    """What watches brought, by kind, namespace and name."""

    objects: dict[str, dict[tuple[str, str], Manifest]] = field(default_factory=lambda: defaultdict(dict))

    async def follow(self, kube: Kube, resource: Resource, labels: str = "") -> None:
        """Keep every object of a kind, for ever."""
        rows = self.objects[resource.kind]

        def replace(items: list[Manifest]) -> None:
            rows.clear()
            for item in items:
                change("ADDED", item)

        def change(event: str, obj: Manifest) -> None:
            key = (obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
            if event == "DELETED":
                rows.pop(key, None)
            else:
                rows[key] = obj

        await follow(kube, resource, labels=labels, replace=replace, change=change)

    def count(self, kind: str, is_it: Callable[[Manifest], bool] = lambda obj: True) -> int:
        return sum(is_it(obj) for obj in self.objects[kind].values())

    def children(self) -> int:
        """Return of the kind of child of which there are fewest how many there are.

        The Service of a service that has no Gateway is not counted twice: there is a Gateway.
        """
        return min(self.count(child.kind) for child in CHILDREN)


@asynccontextmanager
async def watching(kube: Kube) -> AsyncIterator[Seen]:
    """Yield what is seen of all kinds that the bench looks at."""
    seen = Seen()
    kinds = [
        (resource_of(API_VERSION, kind), "") for kind in ("ModelVersion", "ModelApproval", "InferenceService")
    ]
    kinds += [(resource_of("v1", "Pod"), ""), *((child, _MANAGED) for child in CHILDREN)]
    tasks = [asyncio.create_task(seen.follow(kube, resource, labels)) for resource, labels in kinds]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def reached(what: str, count: Callable[[], int], wanted: int, check: Callable[[], None]) -> float:
    """Wait until *count* is *wanted*, tell how far it is, and return the seconds it took.

    *check* raises when waiting has no sense any more.

    Raises:
        Unfinished: nothing more came for `STALL_SECONDS`.
    """
    began = told = moved = time.monotonic()
    before = -1
    while (found := count()) < wanted:
        await asyncio.sleep(_LOOK_SECONDS)
        check()
        now = time.monotonic()
        if found != before:
            before, moved = found, now
        if now - moved > STALL_SECONDS:
            raise Unfinished(
                f"{what}: wanted {wanted}, found {found} and none more for {STALL_SECONDS:.0f} s"
            )
        if now - told > TELL_SECONDS:
            told = now
            print(f"    {what}: {found} of {wanted} after {now - began:.0f} s", file=sys.stderr, flush=True)
    return time.monotonic() - began


class Agents:
    """Every node's delivery agent in one: it reports what a real one would, when a real one would.

    A wanted artifact is Fetching in the first report and Ready in the next; bytes are neither fetched nor
    hashed.
    """

    def __init__(self, kube: Kube, seen: Seen) -> None:
        self._kube = kube
        self._seen = seen
        self._told: dict[str, dict[str, Artifact]] = {}
        self.reports = 0

    async def run(self) -> None:
        """Report for ever."""
        slots = asyncio.Semaphore(AT_ONCE)
        while True:
            due = [(node, found) for node, found in self._wanted().items() if found != self._told.get(node)]

            async def send(node: str, artifacts: dict[str, Artifact]) -> None:
                async with slots:
                    await self._send(node, artifacts)
                self._told[node] = artifacts

            await asyncio.gather(*(send(node, found) for node, found in due))
            await asyncio.sleep(_TICK_SECONDS)

    def _wanted(self) -> dict[str, dict[str, Artifact]]:
        """Return by node and digest what it is to report next."""
        versions = {}
        found: dict[str, dict[str, Artifact]] = defaultdict(dict)
        for key, obj in self._seen.objects["ModelVersion"].items():
            version = version_of(obj)
            if version is not None:
                versions[key] = version
                for node in version.nodes:
                    self._add(found, node, version)
        for obj in self._seen.objects["Pod"].values():
            pod = pod_of(obj)
            if pod is not None and (version := versions.get((pod.namespace, pod.version))) is not None:
                self._add(found, pod.node, version)
        return found

    def _add(self, found: dict[str, dict[str, Artifact]], node: str, version: Any) -> None:
        before = self._told.get(node, {}).get(version.digest)
        size = 669_312_000
        phase = "Fetching" if before is None else "Ready"
        at = before.verified_at if before and before.verified_at else _instant() if before else ""
        there = size if before else 0
        found[node][version.digest] = Artifact(
            version.digest, version.namespace, version.name, phase, there, size, verified_at=at
        )

    async def _send(self, node: str, artifacts: dict[str, Artifact]) -> None:
        self.reports += 1
        manifest = report.manifest(node, artifacts.values(), _DISK, _instant())
        with suppress(NotFound):
            await self._kube.apply_status(manifest, field_manager=names.DELIVERY_FIELD_MANAGER)
            return
        bare = {key: manifest[key] for key in ("apiVersion", "kind", "metadata")}
        await self._kube.apply(bare, field_manager=names.DELIVERY_FIELD_MANAGER)
        await self._kube.apply_status(manifest, field_manager=names.DELIVERY_FIELD_MANAGER)


@asynccontextmanager
async def beside(what: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run *what* meanwhile; its failure is the failure of the whole."""
    task = asyncio.ensure_future(what())
    try:
        yield
        if task.done():
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _instant() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
