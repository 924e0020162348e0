"""Run the operator: lead, watch, plan, act, and leave in good order."""

import argparse
import asyncio
import logging
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator

from aiohttp import web
from prometheus_client import disable_created_metrics
from prometheus_client.core import Metric

from modelops.clients.errors import ApiError
from modelops.clients.kube import Kube, connect
from modelops.clients.rate import TokenBucket
from modelops.controllers import metrics, probes
from modelops.controllers.clock import Clock
from modelops.controllers.lease import LEASE_API, Elector, Timing
from modelops.controllers.machine import Machine, build, forever
from modelops.controllers.seam import Assemble, Kinds, Parts
from modelops.controllers.shell import Shell, configure_logging, handle_signals, registry_for
from modelops.plan import Ref
from modelops.settings import Settings, SettingsError, load

log = logging.getLogger(__name__)

DEFAULT_CONFIG = "/etc/modelops/config.yaml"
_DRAIN_SECONDS = 20.0
_FAREWELL_SECONDS = 3.0
_ASK_SECONDS = 2.0
_DOWN_SECONDS = 60.0
_LAG_SECONDS = 5.0


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the program ``modelops operator``."""
    parser = subparsers.add_parser("operator", help="run the controllers", description=__doc__)
    parser.add_argument("--config", default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--kubeconfig", metavar="FILE", help="default: the service account, else KUBECONFIG")
    formats = ("json", "plain")
    parser.add_argument("--log-format", choices=formats, default="json", help="default: %(default)s")


def run(args: argparse.Namespace, assemble: Assemble | None = None) -> int:
    """Run until a signal comes; return 0 then, 1 when the cluster and 2 when the file lacks something."""
    try:
        settings = load(args.config)
    except SettingsError as error:
        print(f"modelops operator: {error}", file=sys.stderr)
        return 2
    configure_logging(is_json=args.log_format == "json")
    # A second series for each counter that nobody asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        return asyncio.run(Operator(settings, assemble or _every_kind, args.kubeconfig).run())
    except ApiError as error:
        print(f"modelops operator: {error}", file=sys.stderr)
        return 1


def _every_kind(parts: Parts) -> Kinds:
    """Import the kinds only when this replica leads: a standby does without their 5 MB."""
    from modelops.controllers.kinds import assemble

    return assemble(parts)


class Operator:
    """One replica."""

    def __init__(
        self,
        settings: Settings,
        assemble: Assemble,
        kubeconfig: str | None = None,
        *,
        wall: Callable[[], float] = time.time,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        """*wall* is the machine's clock; *end* ends the process at once, with a status."""
        self._settings = settings
        self._wall = wall
        self._end = end
        self._assemble = assemble
        self._kubeconfig = kubeconfig
        self._stop = asyncio.Event()
        self._clock = Clock(wall)
        self._monotonic: Callable[[], float] = time.monotonic
        self._lag = probes.Lag()
        self._machine: Machine | None = None
        self._kopf: Shell | None = None
        self._elector: Elector | None = None

    async def run(self) -> int:
        """Serve probes, become the leader, lead, and return the exit status."""
        # All waiting is by the loop's own clock, so that a test can hold it.
        self._monotonic = asyncio.get_running_loop().time
        self._clock = Clock(self._wall, self._monotonic)
        handle_signals(self._stop.set)
        servers = await self._serve()
        ticker = asyncio.create_task(forever("ticker", lambda: self._lag.run(self._tick)), name="ticker")
        kube = await self._connect()
        try:
            elector = self._elector = self._candidate(kube)
            kube.may_write = lambda: elector.leading
            if not await self._acquired(elector):
                return 0
            return await self._lead(kube, elector)
        finally:
            ticker.cancel()
            await kube.close()
            for server in servers:
                await server.cleanup()

    # --- before leading --------------------------------------------------------------------------

    async def _serve(self) -> tuple[web.AppRunner, ...]:
        """Answer metrics and probes, on every replica."""
        health = {"/healthz": probes.probe(self._is_late, self._lacks_workers)}
        ready = {"/readyz": probes.probe(self._is_blind)}
        return (
            await probes.serve(
                self._settings.metrics_port, {"/metrics": probes.exposition(self._measure, self._figures)}
            ),
            await probes.serve(self._settings.probes_port, health | ready),
        )

    async def _connect(self) -> Kube:
        writes = self._settings.writes
        return await connect(
            self._kubeconfig,
            workers=self._settings.workers,
            bucket=TokenBucket(writes.per_second, writes.burst),
            in_flight=writes.in_flight,
        )

    def _candidate(self, kube: Kube) -> Elector:
        lease = self._settings.lease
        name = self._settings.identity or socket.gethostname()
        return Elector(
            kube,
            Ref(LEASE_API, "Lease", self._settings.namespace, lease.name),
            # The name alone could be that of an earlier life.
            f"{name}_{uuid.uuid4()}",
            Timing(lease.duration, lease.renew, lease.retry),
            monotonic=self._monotonic,
        )

    async def _acquired(self, elector: Elector) -> bool:
        """Wait for the Lease; False when a signal came first."""
        acquiring = asyncio.create_task(elector.acquire(), name="acquire")
        stopping = asyncio.create_task(self._wait_for_stop(), name="stop")
        try:
            await asyncio.wait((acquiring, stopping), return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                return False
            await acquiring
            return True
        finally:
            await _cancelled(acquiring, stopping)
            if self._stop.is_set():
                await elector.release()

    async def _wait_for_stop(self) -> None:
        await self._stop.wait()

    # --- leading ---------------------------------------------------------------------------------

    async def _lead(self, kube: Kube, elector: Elector) -> int:
        keeping = asyncio.create_task(elector.keep(), name="keep the lease")
        keeping.add_done_callback(self._lost)
        machine = self._machine = build(
            self._settings, self._assemble, kube, self._clock, monotonic=self._monotonic
        )
        if told := await self._missing_kinds(kube, machine.kinds):
            log.error("modelops operator: %s", told)
            await self._let_go(elector, keeping)
            return 1
        kopf = self._kopf = self._shell(machine, kube)
        working, helping = machine.start()
        # Last: at its end kopf cancels every task that is younger than itself.
        shell = asyncio.create_task(kopf.supervise(), name="kopf")
        await self._stop.wait()
        log.info("stopping: takes no more keys")
        machine.queue.shut()
        await _cancelled(*helping)
        if working:
            await asyncio.wait(working, timeout=_DRAIN_SECONDS)
        await _cancelled(*working)
        kopf.stop()
        await self._let_go(elector, keeping)
        await asyncio.wait((shell,), timeout=_FAREWELL_SECONDS)
        await _cancelled(shell)
        return 0

    def _shell(self, machine: Machine, kube: Kube) -> Shell:
        """Return kopf, ready to bring our own kinds."""

        def relisted() -> None:
            if machine.synced.is_set():
                machine.sweeper.demand()

        registry = registry_for(machine.kinds.watched, machine.observer, kube.configuration, relisted)
        return Shell(registry, self._settings.watch_namespaces, self._stop.set, machine.sweeper.demand)

    async def _missing_kinds(self, kube: Kube, kinds: Kinds) -> str | None:
        """Return a sentence when the cluster lacks kinds of ours; kopf would only log it and wait."""
        wanted = [one.resource for one in kinds.watched if one.is_own]
        if not wanted:
            return "needs at least one kind, found none; add it to controllers/kinds.py"
        while not self._stop.is_set():
            try:
                absent = [resource for resource in wanted if not await kube.serves(resource)]
            except ApiError as error:
                log.warning("asking for the kinds: %s", error)
                await asyncio.sleep(_ASK_SECONDS)
                continue
            if not absent:
                return None
            names = ", ".join(f"{one.plural} ({one.api_version})" for one in absent)
            return f"needs {names}, found none in the cluster; install the CRDs and start again"
        return None

    async def _let_go(self, elector: Elector, keeping: "asyncio.Task[None]") -> None:
        keeping.remove_done_callback(self._lost)
        await _cancelled(keeping)
        await elector.release()

    def _lost(self, keeping: "asyncio.Task[None]") -> None:
        """End the process at once: no drain, no write, another replica may lead already."""
        log.critical("the Lease is lost: ends at once")
        if not keeping.cancelled() and (error := keeping.exception()):
            log.critical("keeping the Lease failed", exc_info=error)
        logging.shutdown()
        self._end(1)

    # --- what the probes ask ---------------------------------------------------------------------

    def _is_late(self) -> str | None:
        if self._lag.seconds < _LAG_SECONDS:
            return None
        return f"event loop: needs to wake within {_LAG_SECONDS} s, was {self._lag.seconds:.1f} s late"

    def _lacks_workers(self) -> str | None:
        machine, wanted = self._machine, self._settings.workers
        if machine is None or not machine.synced.is_set() or self._stop.is_set():
            return None
        found = machine.workers.alive
        return f"workers: needs {wanted}, found {found}" if found < wanted else None

    def _is_blind(self) -> str | None:
        """Not ready when a watch is down for a minute; a standby watches nothing and is ready."""
        machine = self._machine
        if machine is None:
            return None
        since = [str(one) for one in machine.reflectors if self._is_long(one.down_since)]
        since += ["kopf"] if self._kopf and self._is_long(self._kopf.down_since) else []
        return f"watches: down for {_DOWN_SECONDS:.0f} s: {', '.join(since)}" if since else None

    def _tick(self) -> None:
        self._clock.adjust()

    # --- what is measured ------------------------------------------------------------------------

    def _measure(self) -> None:
        """Set the gauges that tell of this moment."""
        metrics.LEADER.set(1 if self._elector and self._elector.leading else 0)
        metrics.CLOCK_OFFSET.set(self._clock.offset().total_seconds())
        metrics.WORKERS.set(self._settings.workers)
        machine = self._machine
        metrics.SYNCED.set(1 if machine and machine.synced.is_set() else 0)
        metrics.WORKERS_ALIVE.set(machine.workers.alive if machine else 0)
        metrics.QUEUE_DEPTH.set(machine.queue.depth if machine else 0)
        metrics.QUEUE_AGE.set(machine.queue.age if machine else 0)
        up = {"kopf": self._kopf.down_since is None} if self._kopf else {}
        for one in machine.reflectors if machine else ():
            up[one.kind] = one.down_since is None and up.get(one.kind, True)
        for kind, is_up in up.items():
            metrics.WATCH_UP.labels(kind).set(is_up)

    def _figures(self) -> Iterator[Metric]:
        for one in self._machine.kinds.figures if self._machine else ():
            yield from one.collect()

    def _is_long(self, since: float | None) -> bool:
        return since is not None and self._monotonic() - since >= _DOWN_SECONDS


async def _cancelled(*tasks: "asyncio.Task[None]") -> None:
    """Cancel and wait until they ended, whatever their end."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
