"""The last words of a Job that judges: what counts as an answer, and that nothing else does."""

import json

import pytest

from modelops.governance.results import Grade, Result, read

GOOD = {"v": 1, "verdict": "Pass", "samples": 762, "metrics": {"accuracy": "0.91", "refusals": "2%"}}


@pytest.mark.parametrize("grade", list(Grade))
def test_an_answer_is_read(grade):
    found = read(json.dumps({**GOOD, "verdict": str(grade)}))
    assert found == Result(grade, 762, {"accuracy": "0.91", "refusals": "2%"})
    assert found.describe() == "accuracy 0.91, refusals 2%, n=762"


def test_an_answer_without_numbers_says_so():
    assert read('{"v": 1, "verdict": "Pass"}').describe() == "no numbers"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("", id="nothing"),
        pytest.param("Traceback (most recent call last)", id="no JSON"),
        pytest.param(json.dumps(GOOD)[:-3], id="cut"),
        pytest.param(json.dumps({**GOOD, "more": "x" * 4096}), id="oversized"),
        pytest.param("[1]", id="no object"),
        pytest.param(json.dumps({**GOOD, "v": 2}), id="another protocol"),
        pytest.param(json.dumps({**GOOD, "verdict": "Excellent"}), id="an unknown verdict"),
        pytest.param(json.dumps({**GOOD, "verdict": None}), id="no verdict"),
        pytest.param('{"v": 1, "verdict": "Fail", "verdict": "Pass"}', id="two verdicts"),
        pytest.param('{"v": 1, "verdict": "Pass", "samples": NaN}', id="no number"),
        pytest.param(json.dumps({**GOOD, "samples": -1}), id="fewer than no samples"),
        pytest.param(json.dumps({**GOOD, "samples": True}), id="a truth for a number"),
        pytest.param(json.dumps({**GOOD, "metrics": {"accuracy": 0.91}}), id="a fraction that is no text"),
        pytest.param(json.dumps({**GOOD, "metrics": {"a": "x" * 65}}), id="a long text"),
        pytest.param(json.dumps({**GOOD, "metrics": {"a": "x\x1b[31m"}}), id="a text that moves the cursor"),
        pytest.param(json.dumps({**GOOD, "metrics": {str(n): "1" for n in range(21)}}), id="many metrics"),
        pytest.param("[" * 2000, id="a deep one"),
    ],
)
def test_anything_else_is_no_answer(message):
    assert read(message) is None
