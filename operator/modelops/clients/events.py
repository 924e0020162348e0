"""Tell transitions as Kubernetes Events: once each, and never at the cost of a pass."""

import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from modelops.clients.errors import ApiError
from modelops.clients.kube import Kube
from modelops.plan import Event, Manifest, Ref

log = logging.getLogger(__name__)

_QUIET_SECONDS = 600.0
"""The same event about the same object is told again only after so long."""
_REMEMBERED = 4096
_MESSAGE_LENGTH = 1024  # limit of the API server


class Recorder:
    """Write Events for one component."""

    def __init__(
        self,
        kube: Kube,
        component: str,
        instance: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._component = component
        self._instance = instance
        self._now = now
        self._monotonic = monotonic
        self._told: OrderedDict[tuple[str, Event], float] = OrderedDict()

    async def tell(self, about: Ref, event: Event) -> None:
        """Create the Event; a failure is logged and forgotten."""
        if not self._is_news(about, event):
            return
        try:
            await self._kube.create(self._manifest(about, event))
        except ApiError as error:
            log.warning("%s: event %s was not told: %s", about, event.reason, error)

    def _is_news(self, about: Ref, event: Event) -> bool:
        """Remember the event; False when it was told a short while ago."""
        key, now = (about.uid or str(about), event), self._monotonic()
        last = self._told.pop(key, None)
        is_news = last is None or now - last >= _QUIET_SECONDS
        self._told[key] = now if is_news or last is None else last
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return is_news

    def _manifest(self, about: Ref, event: Event) -> Manifest:
        at = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        involved = {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
            "resourceVersion": about.resource_version,
        }
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                # Events of cluster-scoped objects live in the namespace "default".
                "namespace": about.namespace or "default",
                "name": f"{about.name[:220]}.{uuid.uuid4().hex[:16]}",
            },
            "involvedObject": {key: value for key, value in involved.items() if value},
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:_MESSAGE_LENGTH],
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }
