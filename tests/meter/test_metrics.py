"""The series that the meter exposes."""

from prometheus_client import generate_latest

from modelops.meter.answers import Code, Outcome
from modelops.meter.metrics import E2E_BOUNDS_SECONDS, TPOT_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS, Metrics


def lines(metrics: Metrics) -> set[str]:
    return set(generate_latest(metrics.registry).decode().splitlines())


def test_every_series_exists_from_the_start():
    shown = lines(Metrics())
    for code in ("2xx", "4xx", "5xx", "aborted"):
        assert f'modelops_requests_total{{code="{code}"}} 0.0' in shown
    for name in ("ttft", "tpot", "e2e"):
        assert f"modelops_request_{name}_seconds_count 0.0" in shown
    assert {"modelops_prompt_tokens_total 0.0", "modelops_generation_tokens_total 0.0"} <= shown
    assert "modelops_requests_in_flight 0.0" in shown


def test_an_outcome_lands_in_its_buckets():
    metrics = Metrics()
    metrics.observe(Outcome(Code.OK, 0.06, 0.005, 1.2, prompt_tokens=7, generation_tokens=9))
    metrics.observe(Outcome(Code.SERVER_ERROR, generation_tokens=2))
    shown = lines(metrics)
    assert {
        'modelops_requests_total{code="2xx"} 1.0',
        'modelops_requests_total{code="5xx"} 1.0',
        'modelops_request_ttft_seconds_bucket{le="0.04"} 0.0',
        'modelops_request_ttft_seconds_bucket{le="0.06"} 1.0',  # a bound is inclusive
        'modelops_request_tpot_seconds_bucket{le="0.004"} 0.0',
        'modelops_request_tpot_seconds_bucket{le="0.006"} 1.0',
        "modelops_request_ttft_seconds_count 1.0",
        "modelops_request_e2e_seconds_sum 1.2",
        "modelops_prompt_tokens_total 7.0",
        "modelops_generation_tokens_total 11.0",
    } <= shown


def test_the_bounds_contain_those_of_vllm():
    """Source: research/rollouts.md section 6, so that one rule of thresholds fits both."""
    assert TTFT_BOUNDS_SECONDS[:6] == (0.001, 0.005, 0.01, 0.02, 0.04, 0.06)
    assert TPOT_BOUNDS_SECONDS[:6] == (0.002, 0.004, 0.006, 0.008, 0.01, 0.025)
    for bounds in (TTFT_BOUNDS_SECONDS, TPOT_BOUNDS_SECONDS, E2E_BOUNDS_SECONDS):
        assert list(bounds) == sorted(set(bounds))
