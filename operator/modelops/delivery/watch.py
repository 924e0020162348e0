"""Follow one kind on the API server: a whole list, then each change, for ever."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from modelops.clients.errors import ApiError, Gone
from modelops.clients.kinds import Resource
from modelops.clients.kube import Kube
from modelops.plan import Manifest

log = logging.getLogger(__name__)

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 30.0


async def follow(
    kube: Kube,
    resource: Resource,
    namespace: str | None = None,
    *,
    labels: str = "",
    replace: Callable[[list[Manifest]], None],
    change: Callable[[str, Manifest], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Call *replace* with every whole list and *change* with every event (ADDED, MODIFIED, DELETED).

    All namespaces when *namespace* is None.
    """
    pause = FIRST_SECONDS
    version = ""
    while True:
        try:
            if not version:
                items: list[Manifest] = []
                async for page in kube.pages(resource, namespace, labels=labels):
                    items += page.items
                    version = page.resource_version
                replace(items)
            async for event in kube.watch(resource, version, namespace, labels=labels):
                version = event.object["metadata"]["resourceVersion"]
                pause = FIRST_SECONDS
                if event.type != "BOOKMARK":
                    change(event.type, event.object)
            # A server that accepts and ends every watch at once must not be pressed.
            await sleep(FIRST_SECONDS)
        except Gone:
            version = ""
        except ApiError as error:
            log.warning("%s %s", resource.kind, error)
            version = ""
            await sleep(pause)
            pause = min(2 * pause, LONGEST_SECONDS)
