"""The series that Prometheus reads from the meter.  Every one exists, at zero, from the start."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from modelops.meter.answers import Code, Outcome

TTFT_BOUNDS_SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
    160, 640, 2560,
)  # fmt: skip
"""vLLM's bounds of the time to first token.  Source: research/rollouts.md section 6."""

TPOT_BOUNDS_SECONDS = (
    0.002, 0.004, 0.006, 0.008,
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)  # fmt: skip
"""vLLM's bounds, and four below 10 ms, where they would put fast models in one bucket."""

E2E_BOUNDS_SECONDS = (
    0.01, 0.025, 0.05, 0.1, 0.2,
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
)  # fmt: skip
"""vLLM's bounds of request times, and five below 300 ms for short answers and embeddings."""


class Metrics:
    """The meter's own series, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        requests = Counter(
            "modelops_requests",
            "Inference requests by how they ended; a stream that broke or held an error is 5xx, "
            "one whose client left is aborted.",
            ("code",),
            registry=self.registry,
        )
        self._requests = {code: requests.labels(code.value) for code in Code}
        self._ttft = Histogram(
            "modelops_request_ttft_seconds",
            "Seconds from arrival to the first content of a stream, or to the first byte of a whole "
            "answer; successful requests.",
            buckets=TTFT_BOUNDS_SECONDS,
            registry=self.registry,
        )
        self._tpot = Histogram(
            "modelops_request_tpot_seconds",
            "Mean seconds per output token after the first, one observation per successful stream of "
            "two tokens or more.",
            buckets=TPOT_BOUNDS_SECONDS,
            registry=self.registry,
        )
        self._e2e = Histogram(
            "modelops_request_e2e_seconds",
            "Seconds from arrival to the last byte of the answer; successful requests.",
            buckets=E2E_BOUNDS_SECONDS,
            registry=self.registry,
        )
        self._prompt_tokens = Counter(
            "modelops_prompt_tokens", "Prompt tokens, where the engine tells them.", registry=self.registry
        )
        self._generation_tokens = Counter(
            "modelops_generation_tokens",
            "Generated tokens: as the engine tells, else one per content event.",
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "modelops_requests_in_flight", "Inference requests under way.", registry=self.registry
        )

    def observe(self, outcome: Outcome) -> None:
        """Add one finished request."""
        self._requests[outcome.code].inc()
        if outcome.ttft_seconds is not None:
            self._ttft.observe(outcome.ttft_seconds)
        if outcome.tpot_seconds is not None:
            self._tpot.observe(outcome.tpot_seconds)
        if outcome.e2e_seconds is not None:
            self._e2e.observe(outcome.e2e_seconds)
        self._prompt_tokens.inc(outcome.prompt_tokens)
        self._generation_tokens.inc(outcome.generation_tokens)
