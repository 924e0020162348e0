"""Remember which GPUs the plans of services count on until their pods are bound.

Between a plan and its bound pods lie a write, a Deployment and a scheduler.  A plan is made without
waiting, so what it promises is noted before the next one looks.  After a start the promises are read from
statuses and Deployments.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from modelops.api import names
from modelops.controllers import references, rows
from modelops.controllers.rows import loaded
from modelops.controllers.store import Key, OwnRow, Row, Store
from modelops.placement.reservations import Reservation
from modelops.plan import Plan

KIND = "InferenceService"


class Promises:
    """What was planned and is not bound, by service."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[Key, tuple[Reservation, ...]] = {}
        self._left: dict[Key, tuple[Reservation, ...]] = {}
        """What is not bound of each; kept until a pod of the service changes."""
        self._is_read = False
        store.on_change("Pod", self._pod_changed)
        store.on_change(KIND, self._service_changed)

    def note(self, key: Key, plan: Plan) -> None:
        """Keep what *plan* starts, in place of what the service promised before."""
        replicas = {
            manifest["metadata"]["labels"][names.REVISION]: int(manifest["spec"]["replicas"])
            for manifest in plan.apply
            if manifest["kind"] in names.WORKLOADS
        }
        self._keep(key, _promised(key, plan.status or {}, replicas))

    def unbound(self, key: Key) -> tuple[Reservation, ...]:
        """Return what *key* must leave to others: their pods without a node, and its own of other plans.

        Pods of the plan that *key* is about to make anew, which has no Deployment yet, are not among them.
        """
        if not self._is_read:
            self._is_read = True
            for row in self._store.rows(KIND):
                self._read(row)
        found: list[Reservation] = []
        for other in tuple(self._open):
            left = self._still_open(other)
            if other == key:
                made = self._made(key)
                left = tuple(wanted for wanted in left if wanted.revision in made)
            found += left
        return tuple(found)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of services with pods that are not bound, to prove that nothing is left behind."""
        return len(self._open), len(self._left)

    def _still_open(self, key: Key) -> tuple[Reservation, ...]:
        if key not in self._left:
            self._left[key] = tuple(_left(key, self._open[key], self._store))
            if not self._left[key]:
                self._forget(key)  # noted again by the pass that a lost pod brings
                return ()
        return self._left[key]

    def _made(self, key: Key) -> set[str]:
        """Return the revisions of the service that have a Deployment."""
        standing = self._store.get(*key)
        return set(_replicas(standing.uid, self._store)) if standing is not None else set()

    def _read(self, row: Row) -> None:
        key = Key(KIND, row.namespace, row.name)
        if isinstance(row, OwnRow) and key not in self._open:
            status = loaded(row).get("status") or {}
            self._keep(key, _promised(key, status, _replicas(row.uid, self._store)))

    def _keep(self, key: Key, promised: Iterable[Reservation]) -> None:
        self._forget(key)
        kept = tuple(promised)
        if kept:
            self._open[key] = kept
            self._still_open(key)

    def _forget(self, key: Key) -> None:
        self._open.pop(key, None)
        self._left.pop(key, None)

    def _pod_changed(self, before: Row | None, after: Row | None) -> None:
        for row in (before, after):
            if isinstance(row, rows.PodStored) and row.service:
                self._left.pop(Key(KIND, row.namespace, row.service), None)

    def _service_changed(self, before: Row | None, after: Row | None) -> None:
        if before is not None and (after is None or after.uid != before.uid):
            self._forget(Key(KIND, before.namespace, before.name))


def _promised(key: Key, status: Mapping[str, Any], replicas: Mapping[str, int]) -> Iterator[Reservation]:
    """Yield the pods on GPUs that workloads of *replicas* will make, as their records place them."""
    for record in (status.get("placement") or {}).get("revisions") or ():
        place, pods = record.get("placement") or {}, replicas.get(record["hash"], 0)
        if pods and place.get("gpus"):
            yield Reservation(
                service=f"{key.namespace}/{key.name}",
                revision=record["hash"],
                node=place["node"],
                product=place.get("product", ""),
                resource=record.get("resourceName", ""),
                gpus=place["gpus"],
                pods=pods * place.get("nodes", 1),
            )


def _replicas(uid: str, store: Store) -> dict[str, int]:
    """Return the wanted replicas of the workloads that stand, by revision."""
    return {
        row.revision: row.replicas
        for kind in names.WORKLOADS
        for row in store.owned(kind, uid)
        if isinstance(row, rows.ChildStored) and row.replicas > 0
    }


def _left(key: Key, promised: Iterable[Reservation], store: Store) -> Iterator[Reservation]:
    """Yield what is not bound yet of *promised*."""
    pods = store.find("Pod", references.BY_SERVICE, f"{key.namespace}/{key.name}")
    bound = [
        pod.revision for pod in pods if isinstance(pod, rows.PodStored) and pod.node and not pod.is_finished
    ]
    for wanted in promised:
        missing = wanted.pods - bound.count(wanted.revision)
        if missing > 0:
            yield replace(wanted, pods=missing)
