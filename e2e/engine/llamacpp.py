"""llama-server's words: sums without labels, and its error bodies."""

from typing import Any

from e2e.engine.work import Job, Machine

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


class LlamaCpp:
    """llama-server, build 11669.  Source: research/engines.md 2.2, 2.3, 3.3."""

    listens_while_loading = True
    checks_model = False  # answers whatever name the request gives

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._sums = dict.fromkeys(
            ("prompt_tokens_total", "prompt_tokens_cached_total", "prompt_seconds_total",
             "tokens_predicted_total", "tokens_predicted_seconds_total", "n_decode_total", "n_tokens_max"),
            0.0,
        )  # fmt: skip
        self._since_scrape = [0.0, 0.0, 0.0, 0.0]  # prompt tokens and seconds, predicted tokens and seconds

    def exposition(self) -> tuple[int, bytes]:
        """Return status and body of /metrics.  The two speeds cover the time since the last scrape."""
        if not self._machine.settings.has_metrics:
            return 501, b'{"error":{"code":501,"message":"This server does not support metrics endpoint."}}'
        prompt, prompt_seconds, made, made_seconds = self._since_scrape
        self._since_scrape = [0.0, 0.0, 0.0, 0.0]
        gauges = {
            "prompt_tokens_seconds": prompt / prompt_seconds if prompt_seconds else 0.0,
            "predicted_tokens_seconds": made / made_seconds if made_seconds else 0.0,
            "requests_processing": float(len(self._machine.running)),
            "requests_deferred": float(len(self._machine.waiting)),
            "n_busy_slots_per_decode": float(len(self._machine.running) or 1),
        }
        lines: list[str] = []
        for kind, series in (("counter", self._sums), ("gauge", gauges)):
            for name, value in series.items():
                lines += (f"# HELP llamacpp:{name} {name}.", f"# TYPE llamacpp:{name} {kind}")
                lines.append(f"llamacpp:{name} {value:g}")
        return 200, ("\n".join(lines) + "\n").encode()

    def counted(self, handler: str, method: str, status: int, seconds: float) -> None:
        """Count nothing: there is no request counter and no error counter."""

    def token(self, job: Job, seconds: float | None) -> None:
        """Count one token, *seconds* after the one before; no histogram."""
        self._sums["n_decode_total"] += 1

    def finished(self, job: Job, reason: str) -> None:
        """Add one request's sums."""
        prompt_seconds = max(0.0, job.first - job.scheduled)
        made_seconds = max(0.0, job.last - job.first)
        for name, value in (
            ("prompt_tokens_total", float(job.prompt_tokens)),
            ("prompt_seconds_total", prompt_seconds),
            ("tokens_predicted_total", float(job.made)),
            ("tokens_predicted_seconds_total", made_seconds),
        ):
            self._sums[name] += value
        self._sums["n_tokens_max"] = max(self._sums["n_tokens_max"], float(job.prompt_tokens + job.made))
        for index, value in enumerate((job.prompt_tokens, prompt_seconds, job.made, made_seconds)):
            self._since_scrape[index] += value

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return an error body."""
        kind = _ERROR_TYPES.get(status, "server_error")
        return {"error": {"code": status, "message": message, "type": kind}}
