"""Watch one kind: list, then stream changes into `observe`; never end, never raise."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from modelops.clients.errors import ApiError, Forbidden, Gone, NotFound, Unavailable
from modelops.clients.kube import Kube
from modelops.controllers import metrics
from modelops.controllers.observe import Observer
from modelops.controllers.seam import Watched
from modelops.controllers.store import Store, Unseen

log = logging.getLogger(__name__)

_FIRST_SECONDS, _CAP_SECONDS = 0.2, 30.0
_ABSENT_SECONDS = 60.0
_WATCH_SECONDS = (300, 600)
_PUNCTUAL_SECONDS = 10.0


class Reflector:
    """Keep the rows of one kind, in one namespace or all, as the server has them."""

    def __init__(
        self,
        kube: Kube,
        watched: Watched,
        store: Store,
        observer: Observer,
        namespace: str | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._watched = watched
        self._resource = watched.resource
        self._store = store
        self._observer = observer
        self._namespace = namespace if watched.resource.namespaced else None
        self._sleep = sleep
        self._monotonic = monotonic
        self._pause = _FIRST_SECONDS
        self.synced = asyncio.Event()
        """Set once a list was complete, or the kind proved absent."""
        self.down_since: float | None = monotonic()
        """Since when there is neither list nor watch, by the monotonic clock; None when all is well."""

    def __str__(self) -> str:
        return f"watch {self._resource.kind}" + (f" in {self._namespace}" if self._namespace else "")

    @property
    def kind(self) -> str:
        """The kind that is watched."""
        return self._resource.kind

    async def run(self) -> None:
        """List and watch for ever."""
        version: str | None = None
        while True:
            try:
                version = version or await self._list()
                version = await self._stream(version)
            except Gone as error:
                log.info("%s: lists again: %s", self, error)
                version = None
                await self._back_off(error)
            except NotFound as error:
                version = None
                await self._miss(error, self._watched.is_optional)
            except Forbidden as error:
                version = None
                await self._miss(error, self._watched.may_be_denied)
            except ApiError as error:
                self._restarts("failed")
                self._fail()
                log.warning("%s: %s", self, error)
                await self._back_off(error)

    async def _list(self) -> str:
        """Put every object, drop the rows that a complete list did not hold, and return its version."""
        seen: set[str] = set()
        version = ""
        async for page in self._kube.pages(self._resource, self._namespace, labels=self._watched.labels):
            self._succeed()
            for item in page.items:
                seen.add(item["metadata"]["uid"])
                self._observer.observe(self._resource.kind, None, item)
            version = page.resource_version
            await asyncio.sleep(0)  # 500 objects are 20 ms: let the Lease be renewed
        for row in self._store.rows(self._resource.kind, self._namespace):
            # A newer row came from a write of ours after the list was made.
            if row.uid not in seen and row.resource_version <= int(version):
                self._observer.forget(self._resource.kind, row)
        self._observer.regained(self._resource.kind)
        self.synced.set()
        self._restarts("listed")
        return version

    async def _stream(self, version: str) -> str:
        """Follow the changes after *version* and return the last version seen."""
        seconds = random.randint(*_WATCH_SECONDS)
        stream = self._kube.watch(
            self._resource,
            version,
            self._namespace,
            labels=self._watched.labels,
            seconds=seconds,
            opened=self._succeed,
        )
        started, before = self._monotonic(), version
        try:
            async for event in stream:
                version = event.object["metadata"]["resourceVersion"]
                if event.type != "BOOKMARK":
                    self._observer.observe(self._resource.kind, event.type, event.object)
        finally:
            await stream.aclose()
        lasted = self._monotonic() - started
        if version == before and lasted < 1:
            # Accepted and closed at once, again and again, must not become a storm.
            raise Unavailable(f"{self}: closed at once")
        self._restarts("ended" if lasted > seconds - _PUNCTUAL_SECONDS else "broken")
        return version

    async def _miss(self, error: NotFound | Forbidden, may_be: bool) -> None:
        """Go on without the kind when that *may be* and ask each minute, else keep asking."""
        if not may_be:
            self._restarts("failed")
            self._fail()
            log.error("%s: %s", self, error)
            await self._back_off(error)
            return
        is_absent = isinstance(error, NotFound)
        if is_absent:
            for row in self._store.rows(self._resource.kind, self._namespace):
                self._observer.forget(self._resource.kind, row)
        self._observer.lost(self._resource.kind, Unseen(is_absent, str(error)))
        self._succeed()
        self.synced.set()
        await self._sleep(_ABSENT_SECONDS)

    def _restarts(self, why: str) -> None:
        metrics.WATCH_RESTARTS.labels(self._resource.kind, why).inc()

    def _succeed(self) -> None:
        self._pause = _FIRST_SECONDS
        self.down_since = None

    def _fail(self) -> None:
        if self.down_since is None:
            self.down_since = self._monotonic()

    async def _back_off(self, error: ApiError) -> None:
        pause = self._pause * random.uniform(0.8, 1.2)
        if isinstance(error, Unavailable) and error.retry_after is not None:
            pause = max(pause, error.retry_after.total_seconds())
        self._pause = min(_CAP_SECONDS, self._pause * 2)
        await self._sleep(pause)
