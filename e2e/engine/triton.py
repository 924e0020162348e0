"""Triton's words: counters by model, and its error bodies."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from e2e.engine.work import Job, Machine


class Triton:
    """Triton, as its documents describe it; never measured.  Source: research/engines.md 2.1 to 2.3, 3.4."""

    listens_while_loading = True
    checks_model = True

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._registry = CollectorRegistry()
        self._labels = {"model": machine.settings.names[0], "version": "1"}
        names = tuple(self._labels)

        def counter(name: str, labels: tuple[str, ...] = names) -> Counter:
            return Counter(f"nv_inference_{name}", name, labels, registry=self._registry)

        self._success = counter("request_success")
        self._failure = counter("request_failure", (*names, "reason"))
        self._count = counter("count")
        self._exec = counter("exec_count")
        self._duration = counter("request_duration_us")
        for made in (self._success, self._count, self._exec, self._duration):
            made.labels(**self._labels)
        pending = Gauge("nv_inference_pending_request_count", "waiting", names, registry=self._registry)
        pending.labels(**self._labels).set_function(lambda: len(machine.waiting))

    def exposition(self) -> tuple[int, bytes]:
        """Return status and body of /metrics."""
        return 200, generate_latest(self._registry)

    def counted(self, handler: str, method: str, status: int, seconds: float) -> None:
        """Count nothing: what fails before it is scheduled is in no counter."""

    def token(self, job: Job, seconds: float | None) -> None:
        """Count nothing: an answer comes in one piece."""

    def finished(self, job: Job, reason: str) -> None:
        """Count one request that had started."""
        if reason != "length":
            self._failure.labels(**self._labels, reason="CANCELED" if reason == "abort" else "OTHER").inc()
            return
        for made in (self._success, self._count, self._exec):
            made.labels(**self._labels).inc()
        self._duration.labels(**self._labels).inc((job.last - job.arrived) * 1e6)

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return an error body."""
        return {"error": message}
