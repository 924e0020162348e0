"""The one door into the store: kopf, reflectors, sweep and writer all come through it."""

import logging
from collections.abc import Callable, Iterable

from modelops.controllers import metrics
from modelops.controllers.observations import Observations
from modelops.controllers.queue import Queue
from modelops.controllers.seam import Watched
from modelops.controllers.store import Key, Row, Store, Unseen
from modelops.plan import Manifest

log = logging.getLogger(__name__)

DELETED = "DELETED"


class Observer:
    """Turn what was seen into rows, and wake the roots that it concerns."""

    def __init__(
        self,
        watched: Iterable[Watched],
        store: Store,
        queue: Queue[Key],
        observations: Observations,
    ) -> None:
        self._watched = {one.resource.kind: one for one in watched}
        self._store = store
        self._queue = queue
        self._observations = observations
        self.on_failure: Callable[[], None] = lambda: None
        """Called when an object could not be read."""
        self.purge_hooks: list[Callable[[Key], None]] = [queue.purge, observations.purge]
        """Called with the key of every object that is gone."""
        self.change_hooks: list[Callable[[Row, Row], None]] = []
        """Called with the row before and the row now of every object of ours that changed."""

    def observe(self, kind: str, type_: str | None, obj: Manifest) -> bool:
        """Put or drop one object and enqueue its roots; return whether the store changed.

        It never raises, since kopf swallows errors: a failure is counted and demands a sweep.
        """
        watched = self._watched.get(kind)
        if watched is None:
            return False
        try:
            if type_ == DELETED:
                return self._drop(watched, obj)
            return self._put(watched, obj)
        except Exception:  # one unreadable object must not stop the watch of the others
            meta = obj.get("metadata") or {}
            log.exception("%s %s/%s: cannot be read", kind, meta.get("namespace"), meta.get("name"))
            metrics.OBSERVE_FAILURES.labels(kind).inc()
            self.on_failure()
            return False

    def lost(self, kind: str, why: Unseen) -> None:
        """Note that a kind cannot be seen any more; what is known of it stays."""
        if self._store.lose(kind, why):
            level = logging.INFO if why.is_absent else logging.WARNING
            log.log(level, "%s: cannot be seen, asked for each minute: %s", kind, why.told)
            self.wake_all()

    def regained(self, kind: str) -> None:
        """Note that a kind can be seen."""
        if self._store.regain(kind):
            log.info("%s: can be seen now", kind)
            self.wake_all()  # what could not be made or chosen before can be now

    def wake_all(self) -> None:
        """Plan everything again: something that plans do not see has changed."""
        for watched in self._watched.values():
            if watched.is_own:
                for row in self._store.rows(watched.resource.kind):
                    self._wake(watched, row)

    def forget(self, kind: str, row: Row) -> bool:
        """Drop a row that a complete list did not hold."""
        watched = self._watched[kind]
        if self._store.drop(kind, row.namespace, row.name, row.uid) is None:
            return False
        self._gone(watched, row)
        return True

    def _put(self, watched: Watched, obj: Manifest) -> bool:
        kind = watched.resource.kind
        row = watched.project(obj)
        before = self._store.get(kind, row.namespace, row.name)
        if not self._store.put(kind, row):
            return False
        self._wake(watched, row)
        if before is not None:
            if before.uid != row.uid:
                self._gone(watched, before)
            else:
                self._wake(watched, before)  # a reference may have moved to another root
                if watched.is_own:
                    for hook in self.change_hooks:
                        hook(before, row)
        return True

    def _drop(self, watched: Watched, obj: Manifest) -> bool:
        meta = obj["metadata"]
        version = int(meta.get("resourceVersion") or 0)
        row = self._store.drop(
            watched.resource.kind, meta.get("namespace") or "", meta["name"], meta["uid"], version
        )
        if row is None:
            return False
        self._gone(watched, row)
        return True

    def _gone(self, watched: Watched, row: Row) -> None:
        key = Key(watched.resource.kind, row.namespace, row.name)
        for purge in self.purge_hooks:
            purge(key)
        self._wake(watched, row)

    def _wake(self, watched: Watched, row: Row) -> None:
        for key in watched.keys(row, self._store):
            self._queue.add(key)
