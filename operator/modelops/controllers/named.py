"""Read objects whose names are known, one by one: a Role in a namespace may grant its own Namespace alone."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from modelops.clients.errors import ApiError, Forbidden, NotFound
from modelops.clients.kube import Kube
from modelops.controllers.observe import Observer
from modelops.controllers.seam import Watched
from modelops.controllers.store import Store, Unseen
from modelops.plan import Ref

log = logging.getLogger(__name__)

EVERY_SECONDS = 15.0
_RETRY_SECONDS = 2.0


class Named:
    """Keep the rows of some objects of a cluster-scoped kind; what changes is seen within 15 s.

    RBAC counts ``GET /api/v1/namespaces/x`` as a request in namespace x, so a Role there suffices; a list or
    a watch would need a ClusterRole.
    """

    def __init__(
        self,
        kube: Kube,
        watched: Watched,
        names: tuple[str, ...],
        store: Store,
        observer: Observer,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._resource = watched.resource
        self._names = names
        self._store = store
        self._observer = observer
        self._sleep = sleep
        self._monotonic = monotonic
        self.synced = asyncio.Event()
        """Set once every name was answered for: with the object, that it is not there, or with a no."""
        self.down_since: float | None = monotonic()
        """Since when the server does not answer, by the monotonic clock; None when all is well."""

    def __str__(self) -> str:
        return f"read {self._resource.kind} {', '.join(self._names)}"

    @property
    def kind(self) -> str:
        """The kind that is read."""
        return self._resource.kind

    async def run(self) -> None:
        """Read for ever."""
        while True:
            try:
                await self._read()
            except ApiError as error:
                if self.down_since is None:
                    self.down_since = self._monotonic()
                log.warning("%s: %s", self, error)
                await self._sleep(_RETRY_SECONDS)
                continue
            self.down_since = None
            self.synced.set()
            await self._sleep(EVERY_SECONDS)

    async def _read(self) -> None:
        kind = self._resource.kind
        denied = [str(error) for name in self._names if (error := await self._one(name))]
        if denied:
            self._observer.lost(kind, Unseen(is_absent=False, told=denied[0]))
        else:
            self._observer.regained(kind)

    async def _one(self, name: str) -> Forbidden | None:
        """Read one object; return the refusal when the operator may not."""
        kind = self._resource.kind
        try:
            obj = await self._kube.get(Ref(self._resource.api_version, kind, None, name))
        except (NotFound, Forbidden) as error:
            if row := self._store.get(kind, None, name):
                self._observer.forget(kind, row)
            return error if isinstance(error, Forbidden) else None
        self._observer.observe(kind, None, obj)
        return None
