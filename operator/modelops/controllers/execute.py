"""Carry out a plan: status, children, patches, deletions, then events.  Dull on purpose."""

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from modelops.api.names import APPLIED_HASH
from modelops.clients.errors import Conflict, Forbidden, Invalid, NotFound
from modelops.clients.events import Recorder
from modelops.clients.kinds import Resource, resource_of
from modelops.clients.kube import Kube
from modelops.controllers import metrics
from modelops.controllers.observe import Observer
from modelops.controllers.reading import Reading
from modelops.controllers.seam import Watched
from modelops.controllers.store import OwnRow, Row, Store, controller
from modelops.plan import Event, Manifest, Patch, Plan, Ref, ref

log = logging.getLogger(__name__)

TRAFFIC = frozenset({"HTTPRoute", "GRPCRoute"})
"""Kinds that move traffic: not even the first write of one may land on an object that is not known."""

_IDENTITY = ("namespace", "name", "labels", "ownerReferences")


class NameTaken(Exception):
    """A child of the wanted name exists and is not ours; it is never written over."""

    def __init__(self, child: Ref) -> None:
        super().__init__(
            f"{child}: needs to be made by this object, found one that is not controlled by it; "
            "wait until it is gone, or delete or rename it"
        )


class KindAbsent(Exception):
    """The cluster does not have the kind of a child."""

    def __init__(self, child: Ref) -> None:
        super().__init__(
            f"{child}: needs the kind {child.kind} of {child.api_version}, found none in the cluster; "
            "install its CustomResourceDefinition"
        )


class Executor:
    """Make a plan true, step by step; whatever fails ends it, and nothing after it is done."""

    def __init__(
        self, kube: Kube, store: Store, observer: Observer, recorder: Recorder, watched: Iterable[Watched]
    ) -> None:
        self._kube = kube
        self._store = store
        self._observer = observer
        self._recorder = recorder
        self._watched = {one.resource.kind: one for one in watched}

    async def execute(
        self, resource: Resource, reading: Reading, row: Row, plan: Plan, *, repairs: bool = False
    ) -> bool:
        """Carry out *plan*, made from *row*; with *repairs* equal children are applied too.

        Return whether anything was changed: when nothing was, *reading* holds all that this depended on.

        Raises:
            Conflict: somebody wrote first; nothing that the plan wanted after that was done.
            NameTaken: a child's name belongs to somebody else.
            KindAbsent: a child's kind is not installed.
            ApiError: a write failed or was refused.
        """
        about = Ref(resource.api_version, resource.kind, row.namespace or None, row.name, row.uid)
        has_written = bool(plan.patch or plan.delete or plan.events)
        if plan.status is not None:
            has_written |= await self._write_status(about, reading, row, plan.status)
        for manifest in plan.apply:
            if self._is_extra(manifest["kind"]):
                has_written |= await self._apply_extra(about, reading, manifest, repairs=repairs)
            else:
                has_written |= await self._apply(about, reading, manifest, repairs=repairs)
        for change in plan.patch:
            await self._patch(about, change)
        for gone in plan.delete:
            await self._delete(about, gone)
        for event in plan.events:
            if event.lasted is not None:
                metrics.ROLLOUT_SECONDS.labels(event.reason).observe(event.lasted.total_seconds())
            await self._recorder.tell(about, event)
        return has_written

    async def tell(self, resource: Resource, row: Row, event: Event) -> None:
        """Tell one event about an object, outside of a plan."""
        about = Ref(resource.api_version, resource.kind, row.namespace or None, row.name, row.uid)
        await self._recorder.tell(about, event)

    async def _write_status(self, about: Ref, reading: Reading, row: Row, status: Manifest) -> bool:
        """Write the status unless it says what is stored already; return whether that changed anything."""
        if not isinstance(row, OwnRow):
            raise TypeError(
                f"{about}: a status needs an object that is kept whole, found {type(row).__name__}"
            )
        stored = reading.loaded(row).get("status")
        if status == stored:  # most often: without a walk through all of it
            return False
        wanted = without_nulls(status)
        if wanted == stored:
            return False
        meta = {"name": about.name, "resourceVersion": str(row.resource_version)}
        if about.namespace:
            meta["namespace"] = about.namespace
        body = {"apiVersion": about.api_version, "kind": about.kind, "metadata": meta, "status": wanted}
        return self._saw(about, await self._kube.apply_status(body))

    async def _apply(self, about: Ref, reading: Reading, manifest: Manifest, *, repairs: bool) -> bool:
        """Apply a child unless it is as wanted; return whether that changed anything."""
        child = ref(manifest)
        digest = applied_hash(manifest)
        row = reading.get(child.kind, child.namespace, child.name)
        if row is not None:
            _must_be_ours(child, manifest, row)
            if not repairs and row.applied_hash == digest and not self._has_drifted(row, child, manifest):
                return False
        known = {} if row is None else {"uid": row.uid, "resourceVersion": str(row.resource_version)}
        if row is None and child.kind in TRAFFIC:
            known = await self._begin(child, manifest)
        try:
            stored = await self._kube.apply(_body(manifest, digest, known))
        except NotFound as error:
            raise await self._absent(child, error) from error
        self._saw(child, stored)
        has_changed: bool = stored["metadata"]["resourceVersion"] != known.get("resourceVersion")
        if has_changed:
            log.info("%s/%s: applied %s", about.namespace, about.name, child)
        return has_changed

    async def _apply_extra(self, about: Ref, reading: Reading, manifest: Manifest, *, repairs: bool) -> bool:
        """Apply a child that nothing depends on: where that cannot be, the plan goes on without it."""
        child = ref(manifest)
        if reading.unseen(child.kind) is not None:
            return False  # asked for each minute; what is there then wakes every object
        try:
            return await self._apply(about, reading, manifest, repairs=repairs)
        except KindAbsent as error:
            log.info("%s/%s: goes on without %s: %s", about.namespace, about.name, child, error)
        except (Forbidden, Invalid, NameTaken) as error:
            told = f"{about.name}: goes on without {child}: {error}"
            await self._recorder.tell(about, Event("Warning", "WithoutChild", told))
        return True

    def _is_extra(self, kind: str) -> bool:
        watched = self._watched.get(kind)
        return watched is not None and watched.is_extra

    async def _begin(self, child: Ref, manifest: Manifest) -> Manifest:
        """Make the object without its content and return its uid and version.

        An apply would overwrite what is there; a create that comes too late does nothing.

        Raises:
            Conflict: it is there; the row is known now, and the next pass plans from it.
        """
        meta = {name: manifest["metadata"][name] for name in _IDENTITY if name in manifest["metadata"]}
        bare = {"apiVersion": child.api_version, "kind": child.kind, "metadata": meta, "spec": {}}
        try:
            stored = await self._kube.create(bare)
        except NotFound as error:
            raise await self._absent(child, error) from error
        except Conflict:
            self._saw(child, await self._kube.get(child))
            raise
        self._saw(child, stored)
        return {name: stored["metadata"][name] for name in ("uid", "resourceVersion")}

    async def _absent(self, child: Ref, error: NotFound) -> Exception:
        """Return why a child cannot be made: its kind is not installed, or its namespace is gone."""
        resource = resource_of(child.api_version, child.kind)
        return error if await self._kube.serves(resource) else KindAbsent(child)

    def _has_drifted(self, row: Row, child: Ref, manifest: Manifest) -> bool:
        watched = self._watched.get(child.kind)
        return watched is not None and watched.drifted(row, manifest)

    async def _patch(self, about: Ref, change: Patch) -> None:
        """Change somebody else's object in the version that was planned from; one that is gone is let be."""
        try:
            stored = await self._kube.change(change.ref, change.operations)
        except NotFound:
            return
        self._saw(change.ref, stored)
        log.info("%s/%s: changed %s", about.namespace, about.name, change.ref)

    async def _delete(self, about: Ref, gone: Ref) -> None:
        """Delete under the uid and the version that were planned from.

        The version too: a delete that comes late must not hit what has been given another role meanwhile.
        """
        row = self._store.get(gone.kind, gone.namespace, gone.name)
        if row is None and not gone.uid:
            return
        if row is not None and gone.uid in ("", row.uid):
            gone = replace(gone, uid=row.uid, resource_version=str(row.resource_version))
        await self._kube.delete(gone)
        log.info("%s/%s: deleted %s", about.namespace, about.name, gone)

    def _saw(self, what: Ref, obj: Manifest) -> bool:
        """Keep what the server returned, so that the next pass plans from it."""
        return self._observer.observe(what.kind, "MODIFIED", obj)


def applied_hash(manifest: Manifest) -> str:
    """Return the hash of what is wanted: 8 bytes of BLAKE2b over sorted compact JSON, owners included."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def without_nulls(value: Any) -> Any:
    """Return *value* without keys whose value is None: the server does not store them."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value


def _body(manifest: Manifest, digest: str, known: Manifest) -> Manifest:
    """Return what goes to the server: the wish, its hash, and what is known of it as preconditions."""
    meta = manifest["metadata"]
    notes = {**(meta.get("annotations") or {}), APPLIED_HASH: digest}
    return {**manifest, "metadata": {**meta, "annotations": notes, **known}}


def _must_be_ours(child: Ref, manifest: Manifest, row: Row) -> None:
    """Refuse to write over an object that another owner, or nobody we know, made."""
    wanted_owner = controller(manifest["metadata"])
    is_ours = row.owner == wanted_owner if wanted_owner else bool(row.applied_hash)
    if not is_ours:
        raise NameTaken(child)
