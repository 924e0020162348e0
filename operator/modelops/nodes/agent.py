"""The node agent for GPUs: look at them, listen for errors, and say what changed."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from prometheus_client import Counter, Gauge

from modelops.api import names
from modelops.clients import errors
from modelops.clients.kube import Kube
from modelops.nodes import report
from modelops.nodes.facts import NodeFacts, Xid
from modelops.nodes.xids import CRITICAL
from modelops.plan import Manifest, Reason

log = logging.getLogger(__name__)

FREE_BYTES = Gauge("modelops_gpu_memory_free_bytes", "Free memory of a GPU.", ("gpu",))
HEALTHY = Gauge("modelops_gpu_healthy", "1: the GPU takes new work.", ("gpu",))
XIDS = Counter("modelops_gpu_xid_errors_total", "XID errors that the driver told.", ("gpu", "xid"))
LOOKS = Counter("modelops_nodes_looks_total", "Looks at the GPUs, by result.", ("result",))
REPORTS = Counter("modelops_nodes_reports_total", "Reports to the API server, by result.", ("result",))

LEAST_PAUSE_SECONDS = 1.0
ANSWER_SECONDS = 30.0
CLOSE_SECONDS, PARTING_SECONDS = 2.0, 5.0
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 2.0, 60.0

T = TypeVar("T")


class Gpus(Protocol):
    """What is asked of NVML; each call may block, even for ever."""

    def read(self) -> NodeFacts | Reason: ...
    def wait(self, seconds: float) -> tuple[Xid, ...]: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class _Sent:
    """The last report, when it was sent (monotonic seconds), and when the condition last flipped."""

    told: Manifest | None = None
    at: float = 0.0
    state: str = ""
    since: str = ""


class Agent:
    """Everything that one node's agent knows and does."""

    def __init__(
        self,
        kube: Kube,
        gpus: Gpus,
        node: str,
        *,
        seconds: float,
        answer_seconds: float = ANSWER_SECONDS,
        least_seconds: float = LEAST_PAUSE_SECONDS,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube, self._gpus, self._node = kube, gpus, node
        self._seconds, self._answer_seconds, self._least_seconds = seconds, answer_seconds, least_seconds
        self._clock, self._now = clock, now
        self._facts: NodeFacts | None = None
        self._xids: dict[int, int] = {}
        self._pending: asyncio.Future[Any] | None = None
        self._sent = _Sent()
        self._retry_at = 0.0
        self._pause = FIRST_RETRY_SECONDS
        self._reason: Reason | None = None
        self._faults: dict[int, str] = {}

    @property
    def is_ready(self) -> bool:
        """Tell whether a first report has reached the API server."""
        return self._sent.told is not None

    async def run(self) -> None:
        """Work until cancelled."""
        log.info("node=%s start", self._node)
        try:
            while True:
                seen = await self._look()
                await self._tell(report.status(seen, self._xids, self._facts))
                await self._listen(self._seconds if isinstance(seen, NodeFacts) else 0.0)
        finally:
            await self._part()
            await self._close()

    async def _part(self) -> None:
        """Take back what would grow old; without an answer of the API server it stays."""
        told = self._sent.told
        if told is None:
            return
        instant = self._instant()
        try:
            async with asyncio.timeout(PARTING_SECONDS):
                # One that is gone by now stays gone: the chart may be on its way out.
                last = report.manifest(self._node, report.parting(told), instant, instant)
                await self._kube.apply_status(last, field_manager=names.NODES_FIELD_MANAGER)
        except (errors.ApiError, TimeoutError) as error:
            log.warning("node=%s last report failed: %s", self._node, error)

    async def _close(self) -> None:
        """End the connection, unless a call of the driver hangs."""
        self._gpus.stop()
        if self._pending is not None:
            await asyncio.wait((self._pending,), timeout=CLOSE_SECONDS)
        if self._pending is None or self._pending.done():
            await asyncio.wait((_in_thread(self._gpus.close),), timeout=CLOSE_SECONDS)

    # --- looking -------------------------------------------------------------------------------

    async def _look(self) -> NodeFacts | Reason:
        """Return the GPUs, or why not; one call at a time, since the driver of a broken GPU may hang."""
        if self._pending is None:
            self._pending = _in_thread(self._gpus.read)
        await asyncio.wait((self._pending,), timeout=self._answer_seconds)
        if self._pending.done():
            seen: NodeFacts | Reason = self._pending.result()
            self._pending = None
        else:
            seen = Reason(
                "NvmlHangs",
                f"{self._node}: needs an answer of NVML within {self._answer_seconds:g} s, found none; look "
                "at the node's kernel log and restart the node",
            )
        self._note(seen)
        return seen

    def _note(self, seen: NodeFacts | Reason) -> None:
        if isinstance(seen, NodeFacts):
            if self._reason is not None or self._facts is None:
                log.info("node=%s gpus=%d driver=%s read", self._node, len(seen.gpus), seen.driver)
            self._facts, self._reason = seen, None
            LOOKS.labels("Read").inc()
            return
        if seen != self._reason:
            log.warning("node=%s code=%s %s", self._node, seen.code, seen.message)
        self._reason = seen
        LOOKS.labels(seen.code).inc()

    async def _listen(self, seconds: float) -> None:
        """Wait for the next look, or for an error that asks for one now."""
        started = self._clock()
        if seconds:
            self._pending = _in_thread(lambda: self._gpus.wait(seconds))
            heard: tuple[Xid, ...] = await asyncio.shield(self._pending)
            self._pending = None
            for xid in heard:
                self._hear(xid)
            if heard:
                await asyncio.sleep(self._least_seconds)
                return
        left = self._seconds - (self._clock() - started)
        await asyncio.sleep(max(self._least_seconds, left))

    def _hear(self, xid: Xid) -> None:
        XIDS.labels("unknown" if xid.index is None else str(xid.index), str(xid.number)).inc()
        known = CRITICAL.get(xid.number)
        if known is None or xid.index is None:
            log.info("node=%s gpu=%s xid=%d told, takes new work", self._node, xid.index, xid.number)
            return
        self._xids[xid.index] = xid.number
        log.warning("node=%s gpu=%d xid=%d %s", self._node, xid.index, xid.number, known.meaning)

    # --- telling -------------------------------------------------------------------------------

    async def _tell(self, told: Manifest) -> None:
        self._measure(told)
        now = self._clock()
        if now < self._retry_at or not report.is_due(self._sent.told, told, seconds=now - self._sent.at):
            return
        state, instant = told["conditions"][0]["status"], self._instant()
        since = self._sent.since if state == self._sent.state else instant
        try:
            await self._send(report.manifest(self._node, told, instant, since))
        except errors.ApiError as error:
            log.warning("node=%s report failed, retry=%ds: %s", self._node, self._pause, error)
            REPORTS.labels("Failed").inc()
            self._retry_at = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_RETRY_SECONDS)
            return
        REPORTS.labels("Sent").inc()
        self._sent, self._pause = _Sent(told, now, state, since), FIRST_RETRY_SECONDS

    async def _send(self, manifest: Manifest) -> None:
        manager = names.NODES_FIELD_MANAGER
        try:
            await self._kube.apply_status(manifest, field_manager=manager)
        except errors.NotFound:
            bare = {key: manifest[key] for key in ("apiVersion", "kind", "metadata")}
            await self._kube.apply(bare, field_manager=manager)
            await self._kube.apply_status(manifest, field_manager=manager)

    def _measure(self, told: Manifest) -> None:
        """Set the metrics, and log every GPU whose fault came, changed or went."""
        faults: dict[int, str] = {}
        for gpu in told.get("gpus", ()):
            HEALTHY.labels(str(gpu["index"])).set(gpu["healthy"])
            FREE_BYTES.labels(str(gpu["index"])).set(gpu.get("freeBytes", 0))
            if "message" in gpu:
                faults[gpu["index"]] = gpu["message"]
        for index, message in faults.items():
            if self._faults.get(index) != message:
                log.warning("node=%s %s", self._node, message)
        for index in self._faults.keys() - faults.keys():
            log.info("node=%s gpu=%d is without fault again", self._node, index)
        self._faults = faults

    def _instant(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _in_thread(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Run *work* in a thread of its own that never keeps the program from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def call() -> None:
        try:
            outcome: tuple[T | None, BaseException | None] = (work(), None)
        except BaseException as error:  # noqa: BLE001  (it is raised where the future is awaited)
            outcome = (None, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, *outcome)

    threading.Thread(target=call, name="nvml", daemon=True).start()
    return done
