"""vLLM's words: metrics with its labels and bounds, and its error bodies."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from e2e.engine.work import Job, Machine

_TTFT = (.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
         2560)  # fmt: skip
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_REQUEST = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_FINISHES = ("stop", "length", "abort", "error", "repetition")
_UNCOUNTED = ("/metrics", "/health", "/load", "/ping", "/version")
_ERROR_TYPES = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError"}
_BLOCK = 16


class VLLM:
    """vLLM 0.33.  Source: research/engines.md 2.2, 2.3, 3.1."""

    listens_while_loading = False
    checks_model = True

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._registry = CollectorRegistry()
        labels = {"model_name": machine.settings.names[0], "engine": "0"}
        names = tuple(labels)

        def counter(name: str) -> Counter:
            made = Counter(f"vllm:{name}", name, names, registry=self._registry)
            made.labels(**labels)
            return made

        def gauge(name: str, read: Any) -> None:
            made = Gauge(f"vllm:{name}", name, names, registry=self._registry)
            made.labels(**labels).set_function(read)

        def histogram(name: str, bounds: tuple[float, ...]) -> Histogram:
            made = Histogram(f"vllm:{name}", name, names, registry=self._registry, buckets=bounds)
            made.labels(**labels)
            return made

        self._labels = labels
        self._http = Counter(
            "http_requests", "HTTP requests", ("handler", "method", "status"), registry=self._registry
        )
        self._http_seconds = Histogram(
            "http_request_duration_seconds", "HTTP", ("handler", "method"), registry=self._registry
        )
        self._has_stats = machine.settings.has_metrics
        if not self._has_stats:
            return
        self._success = Counter(
            "vllm:request_success", "by reason", (*names, "finished_reason"), registry=self._registry
        )
        for reason in _FINISHES:
            self._success.labels(**labels, finished_reason=reason)
        self._prompt = counter("prompt_tokens")
        self._generated = counter("generation_tokens")
        for name in ("num_preemptions", "prefix_cache_queries", "prefix_cache_hits"):
            counter(name)
        gauge("num_requests_running", lambda: len(machine.running))
        gauge("num_requests_waiting", lambda: len(machine.waiting))
        gauge("kv_cache_usage_perc", lambda: machine.kv_usage)
        self._ttft = histogram("time_to_first_token_seconds", _TTFT)
        self._itl = histogram("inter_token_latency_seconds", _PER_TOKEN)
        self._tpot = histogram("request_time_per_output_token_seconds", _PER_TOKEN)
        self._times = {
            part: histogram(name, _REQUEST)
            for part, name in (
                ("e2e", "e2e_request_latency_seconds"),
                ("queue", "request_queue_time_seconds"),
                ("inference", "request_inference_time_seconds"),
                ("prefill", "request_prefill_time_seconds"),
                ("decode", "request_decode_time_seconds"),
            )
        }
        self._sizes = {side: histogram(f"request_{side}_tokens", _SIZES) for side in ("prompt", "generation")}
        config = {
            "block_size": str(_BLOCK),
            "cache_dtype": "auto",
            "enable_prefix_caching": "True",
            "engine": "0",
            "gpu_memory_utilization": machine.settings.memory_share,
        }
        self._config = Gauge(
            "vllm:cache_config_info", "cache", (*config, "num_gpu_blocks", "kv_cache_size_tokens"),
            registry=self._registry,
        )  # fmt: skip
        self._config_labels = config

    def exposition(self) -> tuple[int, bytes]:
        """Return status and body of /metrics."""
        if self._has_stats:
            tokens = self._machine.knobs.kv_tokens
            self._config.clear()
            self._config.labels(
                **self._config_labels,
                num_gpu_blocks=str(tokens // _BLOCK),
                kv_cache_size_tokens=str(tokens),
            ).set(1)
        return 200, generate_latest(self._registry)

    def counted(self, handler: str, method: str, status: int, seconds: float) -> None:
        """Count one HTTP answer; errors before a request started are only here."""
        if handler in _UNCOUNTED:
            return
        self._http.labels(handler=handler, method=method, status=f"{status // 100}xx").inc()
        self._http_seconds.labels(handler=handler, method=method).observe(seconds)

    def token(self, job: Job, seconds: float | None) -> None:
        """Count one token, *seconds* after the one before."""
        if not self._has_stats:
            return
        if seconds is None:
            self._prompt.labels(**self._labels).inc(job.prompt_tokens)
            self._ttft.labels(**self._labels).observe(job.first - job.arrived)
        else:
            self._itl.labels(**self._labels).observe(seconds)
        self._generated.labels(**self._labels).inc()

    def finished(self, job: Job, reason: str) -> None:
        """Count one request that had started."""
        if not self._has_stats:
            return
        self._success.labels(**self._labels, finished_reason=reason).inc()
        if reason not in ("stop", "length"):
            return
        if job.seconds_per_token is not None:
            self._tpot.labels(**self._labels).observe(job.seconds_per_token)
        times = {
            "e2e": job.last - job.arrived,
            "queue": job.scheduled - job.arrived,
            "inference": job.last - job.scheduled,
            "prefill": job.first - job.scheduled,
            "decode": job.last - job.first,
        }
        for part, seconds in times.items():
            self._times[part].labels(**self._labels).observe(seconds)
        self._sizes["prompt"].labels(**self._labels).observe(job.prompt_tokens)
        self._sizes["generation"].labels(**self._labels).observe(job.made)

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return an error body."""
        kind = _ERROR_TYPES.get(status, "InternalServerError")
        return {"error": {"message": message, "type": kind, "param": None, "code": status}}
