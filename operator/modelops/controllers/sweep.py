"""Compare the store with a list of metadata, and repair what kopf lost on a relist."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import NamedTuple, Self

from modelops.clients.errors import ApiError, NotFound
from modelops.clients.kinds import Resource
from modelops.clients.kube import Kube
from modelops.controllers.observe import Observer
from modelops.controllers.seam import Watched
from modelops.controllers.store import Store
from modelops.plan import Manifest, Ref

log = logging.getLogger(__name__)

_GRACE_SECONDS = 5.0
"""kopf gets so long without progress to bring what the sweep found; then the sweep fetches it."""
_GATHER_SECONDS = 1.0
"""A relist demands a sweep for each of its objects: one answers them all."""
_LOOK_SECONDS = 0.05
_RETRY_SECONDS = 2.0


class Listed(NamedTuple):
    """What is kept of a listed object: metadata with managedFields would be 100 MB at 5,000 objects."""

    namespace: str | None
    name: str
    resource_version: int

    @classmethod
    def of(cls, meta: Manifest) -> Self:
        return cls(meta.get("namespace"), meta["name"], int(meta["resourceVersion"]))


class Sweeper:
    """List the metadata of own kinds at start, on demand and now and then."""

    def __init__(
        self,
        kube: Kube,
        watched: Iterable[Watched],
        namespaces: tuple[str, ...],
        store: Store,
        observer: Observer,
        every: timedelta = timedelta(minutes=10),
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._resources = tuple(one.resource for one in watched if one.is_own)
        self._namespaces = namespaces
        self._store = store
        self._observer = observer
        self._seconds = every.total_seconds()
        self._sleep = sleep
        self._monotonic = monotonic
        self._demanded = asyncio.Event()
        self.synced = asyncio.Event()
        """Set once the store held every object of the first list."""

    def demand(self) -> None:
        """Ask for a sweep now: something may have been lost."""
        self._demanded.set()

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            self._demanded.clear()
            try:
                await self.sweep()
            except ApiError as error:
                log.warning("sweep: %s", error)
                await self._sleep(_RETRY_SECONDS)
                continue
            self.synced.set()
            try:
                async with asyncio.timeout(self._seconds):
                    await self._demanded.wait()
            except TimeoutError:
                continue
            await self._sleep(_GATHER_SECONDS)

    async def sweep(self) -> None:
        """Drop rows that are gone and fetch objects that are missing or newer."""
        for resource in self._resources:
            for namespace in self._places(resource):
                await self._sweep(resource, namespace)

    def _places(self, resource: Resource) -> tuple[str | None, ...]:
        return self._namespaces if self._namespaces and resource.namespaced else (None,)

    async def _sweep(self, resource: Resource, namespace: str | None) -> None:
        found: dict[str, Listed] = {}
        version = 0
        async for page in self._kube.pages(resource, namespace, metadata_only=True):
            found |= {item["metadata"]["uid"]: Listed.of(item["metadata"]) for item in page.items}
            version = int(page.resource_version)
        for row in self._store.rows(resource.kind, namespace):
            if row.uid not in found and row.resource_version <= version:
                log.info("%s/%s: %s went unnoticed", row.namespace, row.name, resource.kind)
                self._observer.forget(resource.kind, row)
        await self._fetch(resource, found)

    async def _fetch(self, resource: Resource, found: dict[str, Listed]) -> None:
        """Wait while kopf is still bringing objects, then fetch what it did not bring."""
        missing = self._missing(resource, found)
        moved = self._monotonic()
        while missing and self._monotonic() - moved < _GRACE_SECONDS:
            await self._sleep(_LOOK_SECONDS)
            left = self._missing(resource, missing)
            if len(left) < len(missing):
                moved = self._monotonic()
            missing = left
        for listed in missing.values():
            await self._bring(resource, listed)

    def _missing(self, resource: Resource, found: dict[str, Listed]) -> dict[str, Listed]:
        """Return the listed objects that the store does not hold, or holds in an older version."""
        return {uid: listed for uid, listed in found.items() if self._is_missing(resource, listed)}

    def _is_missing(self, resource: Resource, listed: Listed) -> bool:
        row = self._store.get(resource.kind, listed.namespace, listed.name)
        return row is None or row.resource_version < listed.resource_version

    async def _bring(self, resource: Resource, listed: Listed) -> None:
        wanted = Ref(resource.api_version, resource.kind, listed.namespace, listed.name)
        try:
            obj = await self._kube.get(wanted)
        except NotFound:
            return  # deleted since the list
        if self._observer.observe(resource.kind, None, obj):
            log.info("%s/%s: %s had not been brought", wanted.namespace, wanted.name, resource.kind)
