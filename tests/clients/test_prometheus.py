"""What Prometheus answers, and that a failure is never taken for an answer without data."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from modelops.clients.errors import Invalid, Unavailable
from modelops.clients.prometheus import Prometheus, Series
from tests.clients.scripted import Asked, serving

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def query(answer, seconds=5.0):
    """Ask one query and return the series, and what the server was asked."""

    async def main():
        async with serving(answer) as server:
            prometheus = Prometheus(f"{server.url}/", timedelta(seconds=seconds))
            try:
                return await prometheus.query("up", NOW), server.asked
            finally:
                await prometheus.close()

    return asyncio.run(main())


def success(type_, result):
    return web.json_response({"status": "success", "data": {"resultType": type_, "result": result}})


def test_a_vector_is_one_value_for_each_series():
    rows = [{"metric": {"pod": "a"}, "value": [1.5, "2"]}, {"metric": {"pod": "b"}, "value": [1.5, "+Inf"]}]
    found, asked = query(lambda _: success("vector", rows))
    assert found == (Series({"pod": "a"}, ((1.5, 2.0),)), Series({"pod": "b"}, ((1.5, math.inf),)))
    assert asked[0].path == "/api/v1/query"
    assert f"time={NOW.timestamp()}" in asked[0].body


def test_no_data_is_an_answer():
    assert query(lambda _: success("vector", []))[0] == ()


def test_a_scalar_has_no_labels():
    assert query(lambda _: success("scalar", [1, "3"]))[0] == (Series({}, ((1.0, 3.0),)),)


def test_a_range_keeps_nan():
    rows = [{"metric": {}, "values": [[1, "NaN"], [2, "4"]]}]

    async def main():
        async with serving(lambda _: success("matrix", rows)) as server:
            prometheus = Prometheus(server.url)
            try:
                return await prometheus.query_range("up", NOW, NOW, timedelta(seconds=15)), server.asked[0]
            finally:
                await prometheus.close()

    (series,), asked = asyncio.run(main())
    assert math.isnan(series.values[0][1])
    assert series.values[1] == (2.0, 4.0)
    assert "step=15.0" in asked.body


async def silence(asked: Asked) -> web.Response:
    await asyncio.sleep(5)
    return web.Response()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(
            lambda _: web.json_response(
                {"status": "error", "errorType": "bad_data", "error": "x"}, status=400
            ),
            Invalid,
            id="a query that can never work",
        ),
        pytest.param(
            lambda _: web.json_response(
                {"status": "error", "errorType": "execution", "error": "too many samples"}, status=422
            ),
            Unavailable,
            id="a query that did not work now",
        ),
        pytest.param(lambda _: web.Response(status=503, text="starting"), Unavailable, id="not ready"),
        pytest.param(lambda _: web.json_response([]), Unavailable, id="somebody else at this address"),
        pytest.param(lambda asked: asked.cut(), Unavailable, id="a cut connection"),
        pytest.param(silence, Unavailable, id="no answer in time"),
    ],
)
def test_a_failure_is_told_apart(answer, error):
    with pytest.raises(error):
        query(answer, seconds=0.01 if answer is silence else 5.0)
