"""Give routes of users their weights back when the service that changed them is gone.

No finalizer waits for it: what was found is noted on the route, so the service may go at once.
"""

import asyncio
import logging
from collections.abc import Iterator

from modelops.clients.errors import ApiError, Conflict, NotFound
from modelops.controllers import route_rows
from modelops.controllers.route_rows import RouteStored
from modelops.controllers.seam import Parts
from modelops.plan import Patch
from modelops.serving import lent
from modelops.serving.splitters import GRPC_ROUTE, HTTP_ROUTE

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0


class RouteSweep:
    """Restore routes that bear the note of a service that does not exist."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._left: set[str] = set()

    async def run(self) -> None:
        """Sweep for ever.  A note counts when it was found left twice: its service may be just coming."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            left = {f"{patch.ref} {service}": patch for service, patch in self.left()}
            for name, patch in left.items():
                if name in self._left:
                    await self._give_back(patch)
            self._left = set(left)

    def left(self) -> Iterator[tuple[str, Patch]]:
        """Yield each service that is gone, with the change that restores a route of its."""
        store = self._parts.store
        for kind in (HTTP_ROUTE, GRPC_ROUTE):
            for row in store.rows(kind):
                assert isinstance(row, RouteStored)
                for service in row.found:
                    if store.get("InferenceService", row.namespace, service) is not None:
                        continue
                    patch = lent.give_back(route_rows.lent(row, kind, service), service, row.namespace)
                    if patch is not None:
                        yield service, patch

    async def _give_back(self, patch: Patch) -> None:
        try:
            await self._parts.kube.change(patch.ref, patch.operations)
        except (Conflict, NotFound):
            return  # it changed or is gone; the next round looks again
        except ApiError as error:
            log.warning("%s: cannot be given back: %s", patch.ref, error)
            return
        log.info("%s: weights given back, their service is gone", patch.ref)
