"""Remove model volumes that nobody uses: they are cluster-scoped, so no owner takes them along."""

import asyncio
import logging

from modelops.api import names
from modelops.clients.errors import ApiError
from modelops.controllers import rows
from modelops.controllers.rows import loaded
from modelops.controllers.seam import Parts
from modelops.controllers.store import OwnRow
from modelops.plan import Ref

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0


class VolumeSweep:
    """Delete claims, then volumes, whose digest no service of the namespace has a revision of."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._unused: set[str] = set()

    async def run(self) -> None:
        """Sweep for ever.  A volume goes when it was found unused twice: its service may be just coming."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            unused = {row.name: row for row in self.unused()}
            for name, row in unused.items():
                if name in self._unused:
                    await self._remove(row)
            self._unused = set(unused)

    def unused(self) -> list[rows.VolumeStored]:
        """Return the volumes of ours that no service needs, and no pod still mounts.

        Volumes are listed for the whole cluster: those of namespaces that are not watched are another's.
        """
        used, watched = self._used(), self._parts.settings.watch_namespaces
        return [
            row
            for row in self._parts.store.rows("PersistentVolume")
            if isinstance(row, rows.VolumeStored)
            and (row.claim_namespace, row.digest) not in used
            and (not watched or row.claim_namespace in watched)
        ]

    def _used(self) -> set[tuple[str, str]]:
        store = self._parts.store
        used = set()
        for row in store.rows("InferenceService"):
            if not isinstance(row, OwnRow):
                continue
            placed = (loaded(row).get("status") or {}).get("placement") or {}
            for record in placed.get("revisions") or ():
                used.add((row.namespace, names.digest_label(record["digest"])))
        for pod in store.rows("Pod"):
            if isinstance(pod, rows.PodStored) and pod.digest and not pod.is_finished:
                used.add((pod.namespace, pod.digest))
        return used

    async def _remove(self, row: rows.VolumeStored) -> None:
        claim = self._parts.store.get("PersistentVolumeClaim", row.claim_namespace, row.claim)
        targets = [Ref("v1", "PersistentVolume", None, row.name, row.uid, str(row.resource_version))]
        if claim is not None:
            place, version = (claim.namespace, claim.name), str(claim.resource_version)
            targets.insert(0, Ref("v1", "PersistentVolumeClaim", *place, claim.uid, version))
        for target in targets:
            try:
                await self._parts.kube.delete(target)
            except ApiError as error:
                log.warning("%s: cannot be removed: %s", target, error)
                return
        log.info("PersistentVolume %s: removed, nobody uses it", row.name)
