"""PromQL for raw series, and answers as Prometheus writes them."""

import math
from dataclasses import dataclass

import pytest

from modelops.analysis.queries import Selector, assemble, range_query, read, texts


@dataclass(frozen=True)
class Raw:
    name: str
    matchers: str = ""


@dataclass(frozen=True)
class Queries:
    requests: Raw = Raw("modelops_requests_total", 'code!="aborted"')
    errors: tuple[Raw, ...] = (Raw("modelops_requests_total", 'code="5xx"'),)
    ttft: Raw | None = Raw("modelops_request_ttft_seconds_bucket")
    tpot: Raw | None = None
    e2e: Raw | None = None


SELECTOR = Selector("shop", "chat", ("aaaa1111", "bbbb2222"))
COMMON = 'namespace="shop",modelops_service="chat",modelops_revision=~"aaaa1111|bbbb2222"'


def test_queries_name_the_service_and_both_revisions():
    assert texts(Queries(), SELECTOR) == (
        f'modelops_requests_total{{code!="aborted",{COMMON}}}',
        f'modelops_requests_total{{code="5xx",{COMMON}}}',
        f"modelops_request_ttft_seconds_bucket{{{COMMON}}}",
    )


def test_names_match_only_themselves():
    text = range_query(Raw("up"), Selector("a", 'b"c\\', ("v1.2", "x|y")))
    assert text == 'up{namespace="a",modelops_service="b\\"c\\\\",modelops_revision=~"v1\\\\.2|x\\\\|y"}'


MATRIX = {
    "status": "success",
    "data": {
        "resultType": "matrix",
        "result": [
            {
                "metric": {"pod": "p", "le": "+Inf"},
                "values": [[1767603600, "3"], [1767603615.5, "NaN"]],
            }
        ],
    },
}
VECTOR = {
    "resultType": "vector",
    "result": [{"metric": {"pod": "p"}, "value": [1767603600, "+Inf"]}],
}


def test_a_matrix_is_read():
    (series,) = read(MATRIX)
    assert series.labels == {"pod": "p", "le": "+Inf"}
    assert series.values[0] == (1767603600.0, 3.0)
    assert math.isnan(series.values[1][1])


def test_a_vector_is_read_and_an_infinite_value_is_no_number():
    (series,) = read(VECTOR)
    assert math.isnan(series.values[0][1])


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        pytest.param(
            {"status": "error", "error": "query timed out"},
            "found query timed out",
            id="error",
        ),
        pytest.param({"resultType": "scalar", "result": [0, "1"]}, "found scalar", id="scalar"),
        pytest.param({"data": None}, "found None", id="nothing"),
    ],
)
def test_other_answers_are_refused(answer, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(answer)


def test_answers_are_sorted_by_what_they_count():
    answers = {text: read(MATRIX)[:1] if "ttft" in text else [] for text in texts(Queries(), SELECTOR)}
    scrapes = assemble(Queries(), SELECTOR, answers)
    assert (scrapes.requests, scrapes.errors, list(scrapes.latency)) == (
        [],
        ([],),
        ["ttft"],
    )
    assert len(scrapes.latency["ttft"]) == 1
