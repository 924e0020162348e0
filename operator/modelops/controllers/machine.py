"""Put the loop together: one store, one queue, who fills them and who empties them."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from modelops.clients.events import Recorder
from modelops.clients.kube import Kube
from modelops.controllers.clock import Clock
from modelops.controllers.execute import Executor
from modelops.controllers.named import Named
from modelops.controllers.observations import Observations
from modelops.controllers.observe import Observer
from modelops.controllers.queue import Queue
from modelops.controllers.reflector import Reflector
from modelops.controllers.seam import Assemble, Kinds, Parts, Watched
from modelops.controllers.store import Key, Store
from modelops.controllers.sweep import Sweeper
from modelops.controllers.worker import Loop, Workers, is_requested
from modelops.settings import Settings

log = logging.getLogger(__name__)

COMPONENT = "modelops-operator"
_RESTART_SECONDS = (1.0, 30.0)

Tasks = list["asyncio.Task[None]"]


@dataclass(slots=True)
class Machine:
    """Everything that runs while this replica leads, but kopf."""

    settings: Settings
    kinds: Kinds
    store: Store
    queue: Queue[Key]
    observations: Observations
    observer: Observer
    sweeper: Sweeper
    reflectors: tuple[Reflector | Named, ...]
    workers: Workers
    synced: asyncio.Event

    def start(self) -> tuple[Tasks, Tasks]:
        """Start everything; return the workers, and the others."""

        def begin(name: str, what: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
            return asyncio.create_task(forever(name, what), name=name)

        def after_sync(what: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
            async def wait_first() -> None:
                await self.synced.wait()
                await what()

            return wait_first

        helping = [begin(str(reflector), reflector.run) for reflector in self.reflectors]
        helping.append(begin("sweep", self.sweeper.run))
        helping.append(begin("sync", self._sync))
        helping += [begin(name, after_sync(what)) for name, what in self.kinds.background]
        working = [
            begin(f"worker {number}", lambda: self.workers.run(self.synced))
            for number in range(self.settings.workers)
        ]
        return working, helping

    async def _sync(self) -> None:
        """Let the workers go once everything was seen."""
        for reflector in self.reflectors:
            await reflector.synced.wait()
        await self.sweeper.synced.wait()
        log.info("synced: %s rows", self.store.sizes[0])
        self.synced.set()


def build(
    settings: Settings,
    assemble: Assemble,
    kube: Kube,
    clock: Clock,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    reflects: Callable[[Watched], bool] = lambda watched: not watched.is_own,
) -> Machine:
    """Put the parts together; nothing runs yet.

    *reflects* says which kinds a reflector watches; kopf brings the others through the observer.
    """
    store, queue = Store(), Queue[Key](monotonic)
    observations = Observations(queue.add)
    kinds = assemble(Parts(settings, kube, store, observations, clock))
    for watched in kinds.watched:
        for name, values in watched.indexes:
            store.add_index(watched.resource.kind, name, values)
    observer = Observer(kinds.watched, store, queue, observations)
    namespaces = settings.watch_namespaces
    sweeper = Sweeper(kube, kinds.watched, namespaces, store, observer, settings.resync, monotonic=monotonic)
    observer.on_failure = sweeper.demand
    instance = settings.identity or socket.gethostname()
    recorder = Recorder(kube, COMPONENT, instance, clock.now, monotonic)
    executor = Executor(kube, store, observer, recorder, kinds.watched)
    loop = Loop(store, queue, observations, executor, clock, settings.resync)
    workers = Workers(loop, kinds.roots, monotonic=monotonic)
    observer.purge_hooks.append(workers.purge)
    observer.change_hooks += [one.changed for one in kinds.figures]
    reflectors = tuple(
        Reflector(kube, watched, store, observer, namespace, monotonic=monotonic)
        if not (watched.is_named and namespaces)
        else Named(kube, watched, namespaces, store, observer, monotonic=monotonic)
        for watched in kinds.watched
        if reflects(watched)
        for namespace in ((watched.resource.namespaced and namespaces) or (None,))
    )
    return Machine(
        settings, kinds, store, queue, observations, observer, sweeper, reflectors, workers, asyncio.Event()
    )


async def forever(name: str, what: Callable[[], Awaitable[None]]) -> None:
    """Run *what* and start it again when it fails; its clean end is the end."""
    pause, cap = _RESTART_SECONDS
    while True:
        try:
            return await what()
        except asyncio.CancelledError:
            if is_requested():
                raise
            log.error("%s: was cancelled by nobody; starts again", name)
        except Exception:  # one task that fails must not end the others in silence
            log.exception("%s: failed; starts again", name)
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))
        pause = min(cap, pause * 2)
