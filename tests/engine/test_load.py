"""The load generator's account, and the load itself on a stand-in."""

import asyncio
import json

import pytest

from e2e.engine.flags import read
from e2e.engine.knobs import Knobs
from e2e.engine.server import StandIn
from e2e.load import Load, Plan, Report
from e2e.load.report import Fault, Span, lowest_open


@pytest.mark.parametrize(
    ("spans", "lowest"),
    [
        pytest.param([(0, 30), (0, 30)], 2, id="open all the time"),
        pytest.param([(0, 15), (15, 30)], 1, id="one follows the other without a gap"),
        pytest.param([(0, 15), (16, 30)], 0, id="a gap"),
        pytest.param([(0, 10), (20, 30)], 0, id="gaps at both edges"),
        pytest.param([(0, 30), (12, 14)], 1, id="another comes and goes"),
        pytest.param([(0, 30), (25, 30), (1, 5)], 1, id="those outside the time do not count"),
        pytest.param([], 0, id="none"),
    ],
)
def test_the_lowest_number_of_open_streams(spans, lowest):
    assert lowest_open([Span(*span) for span in spans], start=10, end=20) == lowest


def test_short_streams_do_not_count_as_long_ones():
    report = Report("u", "m", long_seconds=10, ramped_at=5, stopped_at=20)
    report.spans = [Span(0, 30), Span(4, 13), Span(13, 21)]
    assert report.lowest_open_streams == 1


def test_the_lowest_rate_is_of_whole_seconds_only():
    report = Report("u", "m", long_seconds=10, ramped_at=1.5, stopped_at=4.5)
    report.ok_by_second.update({0: 1, 1: 9, 2: 21, 3: 20, 4: 2})
    assert report.lowest_rate == 20


def test_a_load_that_never_ramped_has_no_lowest_numbers():
    report = Report("u", "m", long_seconds=10, stopped_at=60)
    assert (report.lowest_open_streams, report.lowest_rate) == (None, None)


def test_the_body_of_a_fault_is_kept_short():
    report = Report("u", "m", long_seconds=10)
    report.note(Fault("short", 1.23456, 0.1, 503, "status", "x" * 1000))
    kept = json.loads(report.to_json())["faults"]
    assert kept == [
        {"what": "short", "began": 1.235, "after": 0.1, "status": 503, "error": "status", "body": "x" * 200}
    ]


@pytest.mark.parametrize(
    "url", ["http://8.8.8.8:80", "http://example.org", "127.0.0.1:80", "ftp://127.0.0.1"]
)
def test_only_near_addresses_are_loaded(url):
    with pytest.raises(ValueError, match="loopback or private"):
        Plan(url=url, model="m")


def load_on(knobs: Knobs, *, tokens: int, turn: Knobs | None = None) -> Report:
    """Load a stand-in for as long as it takes to ramp up and, with *turn*, to meet other knobs."""

    async def story() -> Report:
        line = "--as llamacpp -m m -a chat --port 0 -np 16 --sse-ping-interval 1"
        async with StandIn(read(line.split()), knobs) as running:
            plan = Plan(
                url=f"http://127.0.0.1:{running.port}", model="chat", rate=40, streams=3, spare_streams=1,
                stream_tokens=tokens, long_seconds=0.2, finish_seconds=5,
            )  # fmt: skip
            load = Load(plan).start()
            try:
                assert await asyncio.to_thread(load.wait_until_ramped, 5)
                if turn is not None:
                    running.machine.turn(turn)
                await asyncio.sleep(0.4)
            finally:
                report = await asyncio.to_thread(load.stop)
            return report

    return asyncio.run(story())


STEADY = Knobs(ttft=0.0, itl=0.01, seed=1)


def test_a_healthy_service_loses_nothing():
    report = load_on(STEADY, tokens=70)
    assert (report.lost, report.stream_unfinished, report.held_back) == (0, 0, 0)
    assert report.stream_ok >= 4
    assert report.short_ok >= 10
    assert report.lowest_open_streams is not None
    assert report.lowest_open_streams >= 3
    assert set(report.answered_by) == {"stand-in"}
    assert sum(report.answered_by.values()) == report.short_ok + report.stream_ok


def test_failed_requests_and_cut_streams_are_told_apart():
    refused = load_on(STEADY, tokens=20, turn=Knobs(ttft=0.0, itl=0.01, error_share=1.0))
    assert refused.short_failed > 0
    assert refused.stream_cut == 0
    assert {fault.status for fault in refused.faults if "error_share" in fault.body} == {500}
    cut = load_on(STEADY, tokens=20, turn=Knobs(ttft=0.0, itl=0.01, cut_share=1.0))
    assert cut.stream_cut > 0
    assert ("stream", 200) in {(fault.what, fault.status) for fault in cut.faults}
    assert cut.lost == cut.short_failed + cut.stream_failed + cut.stream_cut
