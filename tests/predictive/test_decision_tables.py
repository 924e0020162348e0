"""Decision tables: what a rule may ask, which rule decides, and what is no table."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops_predictive.predictors import rules
from modelops_predictive.predictors.base import BadInput, CannotLoad

TABLE = {
    "format": rules.FORMAT,
    "hitPolicy": "First",
    "inputs": [
        {"name": "age", "type": "number"},
        {"name": "country", "type": "text"},
        {"name": "known", "type": "boolean"},
    ],
    "outputs": [{"name": "decision", "type": "text"}, {"name": "limit", "type": "number"}],
    "rules": [],
    "otherwise": {"decision": "ask", "limit": 0},
}


def table(*whens, policy="First"):
    listed = [
        {"id": f"r{at}", "when": when, "then": {"decision": f"d{at}", "limit": at}}
        for at, when in enumerate(whens)
    ]
    return rules.read({**copy.deepcopy(TABLE), "rules": listed, "hitPolicy": policy})


def decide(read, age=30.0, country="DE", known=True):
    inputs = {
        "age": np.array([age], dtype="float64"),
        "country": np.array([country], dtype=object),
        "known": np.array([known]),
    }
    answer = read.answer(inputs, ())
    return json.loads(answer[rules.FIRED][0, 0])


@pytest.mark.parametrize(
    ("when", "facts", "holds"),
    [
        pytest.param({}, {}, True, id="a rule that asks nothing"),
        pytest.param({"age": 30}, {}, True, id="a value is equality"),
        pytest.param({"age": 31}, {}, False, id="another value"),
        pytest.param({"age": {"lessThan": 30}}, {}, False, id="less than leaves the limit out"),
        pytest.param({"age": {"atMost": 30}}, {}, True, id="at most takes it in"),
        pytest.param({"age": {"moreThan": 30}}, {}, False, id="more than leaves the limit out"),
        pytest.param({"age": {"atLeast": 30}}, {}, True, id="at least takes it in"),
        pytest.param({"age": {"atLeast": 18, "lessThan": 65}}, {}, True, id="both tests hold"),
        pytest.param({"age": {"atLeast": 18, "lessThan": 30}}, {}, False, id="one of two holds"),
        pytest.param({"country": {"in": ["DE", "FR"]}}, {}, True, id="among"),
        pytest.param({"country": {"notIn": ["DE", "FR"]}}, {}, False, id="not among"),
        pytest.param({"country": {"notIn": ["DE"]}}, {"country": ""}, False, id="missing is not another"),
        pytest.param({"age": {"lessThan": 99}}, {"age": math.nan}, False, id="missing is not less"),
        pytest.param({"age": {"isMissing": True}}, {"age": math.nan}, True, id="missing"),
        pytest.param({"age": {"isMissing": False}}, {"age": math.nan}, False, id="wanted, and missing"),
        pytest.param({"known": True, "country": "DE"}, {}, True, id="two inputs"),
        pytest.param({"known": False, "country": "DE"}, {}, False, id="one of two inputs"),
    ],
)
def test_when_a_rule_holds(when, facts, holds):
    assert decide(table(when), **facts) == (["r0"] if holds else [])


def test_the_first_rule_that_holds_decides():
    assert decide(table({"age": 31}, {"age": 30}, {})) == ["r1"]


def test_a_unique_table_refuses_two_rules_at_once():
    with pytest.raises(BadInput, match="found r1 and r2"):
        decide(table({"age": 31}, {"age": 30}, {}, policy="Unique"))
    assert decide(table({"age": 31}, {"age": 30}, policy="Unique")) == ["r1"]


def test_an_answer_has_its_rules_and_facts_even_when_one_output_is_wanted():
    inputs = {"age": np.array([17]), "country": np.array(["DE"], dtype=object), "known": np.array([False])}
    answer = table({"age": {"lessThan": 18}}).answer(inputs, ["limit"])
    assert list(answer) == ["limit", rules.FIRED, rules.FACTS]
    assert json.loads(answer[rules.FACTS][0, 0]) == {"age": 17.0, "country": "DE", "known": False}


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=20),
    st.lists(st.floats(-100, 100), max_size=5),
)
def test_the_same_facts_give_the_same_answer_and_every_row_gets_one(ages, limits):
    read = table(*({"age": {"lessThan": limit}} for limit in limits))
    inputs = {
        "age": np.array(ages),
        "country": np.array(["DE"] * len(ages), dtype=object),
        "known": np.array([True] * len(ages)),
    }
    one, other = read.answer(inputs, ()), read.answer(inputs, ())
    assert all((one[name] == other[name]).all() for name in one)
    assert all(len(column) == len(ages) for column in one.values())


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        pytest.param({"age": np.array([1])}, "needs age, country, known, found age", id="too few"),
        pytest.param(
            {"age": np.array(["x"], object), "country": np.array(["x"], object), "known": np.array([True])},
            "age needs FP64",
            id="text for a number",
        ),
        pytest.param(
            {"age": np.array([1, 2]), "country": np.array(["x"], object), "known": np.array([True])},
            "columns of one length",
            id="rows of different number",
        ),
    ],
)
def test_requests_that_do_not_fit_are_refused(inputs, sentence):
    with pytest.raises(BadInput, match=sentence):
        table({}).answer(inputs, ())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param({"format": "v2"}, "format: needs modelops.dev/decision-table/v1", id="another format"),
        pytest.param({"hitPolicy": "Collect"}, "hitPolicy: needs First or Unique", id="another policy"),
        pytest.param({"code": "x"}, "found code", id="an unknown key"),
        pytest.param(
            {"otherwise": {"decision": "x"}}, "otherwise: needs decision, limit", id="half an answer"
        ),
        pytest.param({"inputs": [{"name": "a", "type": "date"}]}, "type: needs number, text", id="a type"),
        pytest.param({"outputs": [{"name": "facts", "type": "text"}]}, "other names than", id="a taken name"),
        pytest.param({"rules": {}}, "rules: needs a list", id="no list of rules"),
        pytest.param(
            {"rules": [{"id": "a", "when": {"x": 1}, "then": TABLE["otherwise"]}]},
            r"rules\[0\].when: needs age, country, known, found x",
            id="an input that is not there",
        ),
        pytest.param(
            {"rules": [{"id": "a", "when": {"country": {"lessThan": "x"}}, "then": TABLE["otherwise"]}]},
            "a number, for an input of type number",
            id="texts are not ordered",
        ),
        pytest.param(
            {"rules": [{"id": "a", "when": {"age": {"__import__": "os"}}, "then": TABLE["otherwise"]}]},
            "found __import__",
            id="a test that does not exist",
        ),
        pytest.param(
            {"rules": [{"id": "a", "when": {"age": True}, "then": TABLE["otherwise"]}]},
            "needs a number, found True",
            id="true is no number",
        ),
        pytest.param(
            {"rules": [{"id": "a", "when": {}, "then": TABLE["otherwise"]}] * 2},
            "different ids",
            id="one id twice",
        ),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(change, sentence):
    with pytest.raises(CannotLoad, match=sentence):
        rules.read({**copy.deepcopy(TABLE), **change})
