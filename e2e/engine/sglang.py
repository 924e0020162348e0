"""SGLang's words: metrics with its labels and bounds, and its error bodies."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from e2e.engine.work import Job, Machine

_LATENCY = (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400)
_PER_TOKEN = (.002, .004, .006, .008, .01, .015, .02, .025, .03, .035, .04, .06, .08, .1, .2, .4, .6, .8, 1,
              2, 4, 6, 8)  # fmt: skip


class SGLang:
    """SGLang 0.5.23.  Source: research/engines.md 2.2, 2.3, 3.2."""

    listens_while_loading = True
    checks_model = False

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._registry = CollectorRegistry()
        self._labels = {"model_name": machine.settings.names[0], "engine_type": "unified"}
        names = (*self._labels, "is_streaming")

        def counter(name: str, labels: tuple[str, ...] = names) -> Counter:
            return Counter(f"sglang:{name}", name, labels, registry=self._registry)

        def histogram(name: str, bounds: tuple[float, ...], labels: tuple[str, ...] = names) -> Histogram:
            return Histogram(f"sglang:{name}", name, labels, registry=self._registry, buckets=bounds)

        def gauge(name: str, read: Any) -> None:
            ranks = {"tp_rank": "0", "pp_rank": "0", "moe_ep_rank": "0"}
            made = Gauge(f"sglang:{name}", name, (*self._labels, *ranks), registry=self._registry)
            made.labels(**self._labels, **ranks).set_function(read)

        plain = tuple(self._labels)
        self._ttft = histogram("time_to_first_token_seconds", _LATENCY)
        self._e2e = histogram("e2e_request_latency_seconds", _LATENCY)
        self._queue = histogram("queue_time_seconds", _LATENCY, plain)
        self._itl = histogram("inter_token_latency_seconds", _PER_TOKEN, plain)
        self._tpot = histogram("request_time_per_output_token_seconds", _PER_TOKEN)
        self._prompt = counter("prompt_tokens")
        self._generated = counter("generation_tokens")
        self._requests = counter("num_requests")
        self._aborted = counter("num_aborted_requests", plain)
        self._aborted.labels(**self._labels)
        self._http = counter("http_requests", ("endpoint", "method"))
        self._answers = counter("http_responses", ("endpoint", "status_code", "method"))
        gauge("num_running_reqs", lambda: len(machine.running))
        gauge("num_queue_reqs", lambda: len(machine.waiting))
        gauge("token_usage", lambda: machine.kv_usage)
        gauge("num_used_tokens", lambda: machine.kv_usage * machine.knobs.kv_tokens)
        gauge("max_total_num_tokens", lambda: machine.knobs.kv_tokens)

    def exposition(self) -> tuple[int, bytes]:
        """Return status and body of /metrics, which is absent without ``--enable-metrics``."""
        if not self._machine.settings.has_metrics:
            return 404, b'{"detail":"Not Found"}'
        return 200, generate_latest(self._registry)

    def counted(self, handler: str, method: str, status: int, seconds: float) -> None:
        """Count one HTTP answer."""
        self._http.labels(endpoint=handler, method=method).inc()
        self._answers.labels(endpoint=handler, status_code=str(status), method=method).inc()

    def token(self, job: Job, seconds: float | None) -> None:
        """Count one token, *seconds* after the one before."""
        if seconds is None:
            self._ttft.labels(**self._of(job)).observe(job.first - job.arrived)
            self._queue.labels(**self._labels).observe(job.scheduled - job.arrived)
        else:
            self._itl.labels(**self._labels).observe(seconds)

    def finished(self, job: Job, reason: str) -> None:
        """Count one request that had started.  Tokens are counted only here, at its end."""
        labels = self._of(job)
        if reason == "abort":
            self._aborted.labels(**self._labels).inc()
        self._requests.labels(**labels).inc()
        self._prompt.labels(**labels).inc(job.prompt_tokens)
        self._generated.labels(**labels).inc(job.made)
        if reason not in ("stop", "length"):
            return
        self._e2e.labels(**labels).observe(job.last - job.arrived)
        if job.seconds_per_token is not None:
            self._tpot.labels(**labels).observe(job.seconds_per_token)

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return an error body."""
        return {"object": "error", "message": message, "type": "error", "param": None, "code": status}

    def _of(self, job: Job) -> dict[str, str]:
        return {**self._labels, "is_streaming": str(job.is_streaming)}
