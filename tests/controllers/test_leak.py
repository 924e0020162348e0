"""Whatever comes and goes leaves nothing behind."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta

from modelops.controllers.observe import Observer
from modelops.controllers.queue import Queue
from modelops.controllers.services import MEASURED
from modelops.controllers.store import Key
from modelops.controllers.worker import Loop, Workers
from modelops.plan import Manifest
from modelops.serving.snapshot import Measured
from tests.bench.loop_data import Data
from tests.serving.cluster import Cluster

SERVICES = 60


class Passing:
    """The loop over what is shown to it; services have come to rest, so nothing is written."""

    def __init__(self) -> None:
        self.cluster = cluster = Cluster()
        self.queue: Queue[Key] = Queue(lambda: 0.0)
        kinds, store, seen = cluster.kinds, cluster.store, cluster.observations
        self.observer = Observer(kinds.watched, store, self.queue, seen, kinds.waiting)
        loop = Loop(store, self.queue, seen, cluster.executor, cluster.parts.clock, timedelta(minutes=10))
        self.workers = Workers(loop, kinds.roots, monotonic=lambda: 0.0)
        self.observer.purge_hooks.append(self.workers.purge)
        self.known = {one.resource.kind for one in kinds.watched}
        self.version = 0

    def show(self, type_: str, objects: Iterable[Manifest]) -> None:
        for obj in objects:
            if obj["kind"] not in self.known:
                continue
            self.version += 1
            meta = {"uid": obj["metadata"]["name"], **obj["metadata"], "resourceVersion": str(self.version)}
            assert self.observer.observe(obj["kind"], type_, {**obj, "metadata": meta})

    def pass_all(self) -> int:
        """Give a pass to every service that waits for one, and forget the other keys."""
        passes = 0
        while (key := self.queue.take()) is not None:
            if key.kind == "InferenceService" or self.cluster.store.get(*key) is None:
                asyncio.run(self.workers.give_pass(key))
                passes += 1
            self.queue.done(key)
        return passes

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        return {
            "store": self.cluster.store.sizes,
            "queue": self.queue.sizes,
            "observations": (len(self.cluster.observations),),
            "workers": self.workers.sizes,
            "promises": self.cluster.roots["InferenceService"].sizes,
        }


def test_every_map_is_as_before_once_all_that_came_is_gone():
    data = Data(SERVICES)
    around, services = list(data.around()), list(data.settled())
    passing = Passing()
    passing.show("ADDED", around)
    passing.pass_all()
    before = passing.sizes
    passing.show("ADDED", services)
    for number in range(SERVICES):
        key = Key("InferenceService", f"team-{number % 20:02d}", f"svc-{number:05d}")
        passing.cluster.observations.put(key, MEASURED, Measured(f"run {number}"))
    assert passing.pass_all() >= SERVICES
    assert passing.sizes["workers"][-1] == SERVICES
    passing.show("DELETED", services)
    passing.pass_all()
    assert passing.sizes == before
