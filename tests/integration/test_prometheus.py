"""What a run reads from a real Prometheus: the engine's own counters, and the queries of a policy."""

import asyncio
import random
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from e2e.cluster import binaries
from modelops.analysis.settings import Custom, Kind, Metric
from modelops.controllers.measure import Measuring, Run
from modelops.controllers.store import Key
from modelops.engines.base import METERED
from modelops.serving.snapshot import Measured

SCRAPE, WINDOW, WINDOWS = 15, 60, 10
STABLE, CANARY = "a1a1a1a1", "b2b2b2b2"
ORIGIN = int(time.time()) // 3600 * 3600 - 4 * 3600
"""When the candidate was ready: hours ago, in a block of its own."""
GONE_AT, BORN_AT, RESET_AT = 4, 5, 7
"""Windows after which one pod of stable is replaced, and the canary's container restarts."""


def lines() -> Iterator[str]:
    """Write what was scraped of three pods, in OpenMetrics, by family and series in order of time."""
    for family, of_requests in (("modelops_requests", 1.0), ("bad", 0.02), ("answers", 0.5)):
        yield f"# TYPE {family} counter"
        for pod, revision, alive in (
            ("stable-0", STABLE, range(WINDOWS + 1)),
            ("stable-1", STABLE, range(GONE_AT + 1)),
            ("stable-2", STABLE, range(BORN_AT, WINDOWS + 1)),
            ("canary-0", CANARY, range(WINDOWS + 1)),
        ):
            # A history, without which nothing is frozen, for stable's first pod alone.
            first = -20 if pod == "stable-0" else alive.start
            for at in range(first * WINDOW, alive.stop * WINDOW - WINDOW + 1, SCRAPE):
                seconds = at - first * WINDOW
                if pod == "canary-0" and at > RESET_AT * WINDOW:
                    seconds = at - RESET_AT * WINDOW
                labels = f'namespace="quickstart",modelops_service="chat",modelops_revision="{revision}"'
                code = 'code="2xx",' if family == "modelops_requests" else ""
                count = int(seconds * 10 * of_requests)
                yield f'{family}_total{{{code}{labels},pod="{pod}"}} {count} {ORIGIN + at}'
    yield "# TYPE tokens_per_second gauge"
    for pod, revision in (("stable-0", STABLE), ("canary-0", CANARY)):
        for at in range(0, WINDOWS * WINDOW + 1, SCRAPE):
            labels = f'namespace="quickstart",modelops_service="chat",modelops_revision="{revision}"'
            level = 100 if revision == STABLE else 90
            yield f'tokens_per_second{{{labels},pod="{pod}"}} {level} {ORIGIN + at}'
    yield "# EOF"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has scraped for half an hour, hours ago."""
    folder, programs = tmp_path_factory.mktemp("prometheus"), binaries.ensure("prometheus")
    (folder / "samples.txt").write_text("\n".join(lines()) + "\n")
    (folder / "prometheus.yml").write_text("global: {}\n")
    made = ["tsdb", "create-blocks-from", "openmetrics", str(folder / "samples.txt"), str(folder / "data")]
    subprocess.run([programs / "promtool", *made], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([programs / "prometheus", *arguments], stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/-/ready", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait(ready: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(ready, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def measured(url: str, *metrics: Metric, closed: int = WINDOWS) -> Measured:
    """Return what is measured of the run with these metrics of a policy."""
    run = Run(
        key=Key("InferenceService", "quickstart", "chat"),
        run_id="run",
        stable=STABLE,
        canary=CANARY,
        origin=ORIGIN,
        window=WINDOW,
        closed=closed,
        queries=METERED,
        needs_history=True,
        bounds={},
        metrics=metrics,
    )

    async def ask() -> Measured:
        settings = SimpleNamespace(prometheus=SimpleNamespace(url=url, timeout=timedelta(seconds=10)))
        measuring = Measuring(SimpleNamespace(settings=settings))  # type: ignore[arg-type]
        try:
            return await measuring._ask(run)
        finally:
            await measuring._prometheus.close()

    return asyncio.run(ask())


def own(kind: Kind, *queries: str, **more: float) -> Metric:
    return Metric("m", custom=replace(Custom(kind, queries), **more))


def test_whole_requests_are_counted_and_a_replaced_pod_is_left_out_where_it_was_not_whole(url: str) -> None:
    windows = measured(url).windows
    assert [w.canary.requests for w in windows if w.canary] == [600] * WINDOWS  # the reset loses nothing here
    pods = [w.stable.pods for w in windows if w.stable]
    assert pods == [2] * GONE_AT + [1] + [2] * (WINDOWS - BORN_AT)
    assert [w.stable.requests for w in windows if w.stable] == [600 * count for count in pods]


def test_stables_hour_before_is_read(url: str) -> None:
    history = measured(url).history
    assert history is not None
    assert [window.requests for window in history.windows] == [600] * 20


def test_counters_of_a_policy_are_whole_numbers(url: str) -> None:
    found = measured(url, own(Kind.RATIO, "bad_total{$SELECTOR}", "answers_total{$SELECTOR}"))
    readings = [window.readings["m"] for window in found.windows]
    assert {reading.canary for reading in readings} == {(12.0, 300.0)}
    assert readings[GONE_AT].stable == (12.0, 300.0)
    assert readings[0].stable == (24.0, 600.0)


def test_what_prometheus_counts_itself_is_the_count_of_each_version(url: str) -> None:
    query = "sum(increase(answers_total{$SELECTOR}[$WINDOW]))"
    windows = measured(url, own(Kind.COUNTER, query)).windows
    assert windows[1].readings["m"].canary[0] == pytest.approx(300, rel=0.05)
    assert windows[1].readings["m"].stable[0] == pytest.approx(600, rel=0.05)


def test_levels_and_bounds_are_read_at_the_end_of_each_window(url: str) -> None:
    gauge = own(Kind.GAUGE, "avg(tokens_per_second{$SELECTOR})", tolerated=0.1)
    assert {tuple(w.readings["m"].canary) for w in measured(url, gauge).windows} == {(90.0,)}
    limit = own(Kind.THRESHOLD, "max(tokens_per_second{$CANARY})", most=80.0)
    assert {w.readings["m"].canary for w in measured(url, limit).windows} == {(90.0,)}
    never = own(Kind.THRESHOLD, "sum(increase(never_seen{$CANARY}[$WINDOW])) or vector(0)", most=0.0)
    assert {w.readings["m"].canary for w in measured(url, never).windows} == {(0.0,)}


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        pytest.param(
            "tokens_per_second{$SELECTOR", "needs a query that Prometheus understands", id="no promql"
        ),
        pytest.param(
            "{__name__=~'answers_total|bad_total',$SELECTOR}", "needs one value for each version", id="many"
        ),
    ],
)
def test_a_query_that_cannot_be_used_spoils_itself_alone(url: str, query: str, sentence: str) -> None:
    found = measured(url, own(Kind.GAUGE, query))
    assert all(sentence in window.unsupported["m"] for window in found.windows)
    assert all(window.canary and window.canary.requests == 600 for window in found.windows)


def test_a_metric_that_is_not_there_is_missing_and_not_zero(url: str) -> None:
    found = measured(url, own(Kind.GAUGE, "avg(never_seen{$SELECTOR})"))
    assert [window.readings for window in found.windows] == [{}] * WINDOWS


def test_the_same_windows_are_read_again_bit_for_bit(url: str) -> None:
    metrics = (own(Kind.RATIO, "bad_total{$SELECTOR}", "answers_total{$SELECTOR}"),)
    early = measured(url, *metrics, closed=random.Random(1).randint(3, 8))
    assert measured(url, *metrics).windows[: len(early.windows)] == early.windows
