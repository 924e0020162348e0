"""No scenario of the specification gets lost: each number is borne by a test, or its field is refused."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from modelops.api.meta import Refused
from modelops.api.policy import Metric, PolicySpec, PolicyTraffic

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests", "e2e")
FIRST, LAST = 1, 69
"""Research note on rollouts, section 11."""
NOT_BUILT: dict[int, tuple[type[BaseModel], str]] = {
    12: (PolicyTraffic, "route_ref"),
    39: (Metric, "threshold"),
    43: (Metric, "provider"),
    53: (PolicySpec, "hooks"),
    54: (PolicySpec, "hooks"),
    55: (PolicySpec, "load_test"),
    56: (PolicySpec, "hooks"),
}
"""Scenarios of fields that the API server refuses with a sentence until they are built."""
NAME = re.compile(r"^test_s(\d+)_")
SENTENCE = re.compile(r"^S(\d+)[ :] ?\S")


def _borne(tree: ast.AST) -> Iterator[int]:
    """Yield the numbers in the names of tests, in ids and in the first words of docstrings."""
    for node in ast.walk(tree):
        found = None
        if isinstance(node, ast.FunctionDef):
            found = NAME.match(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = SENTENCE.match(node.value)
        if found:
            yield int(found[1])


def _numbers() -> set[int]:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return {number for path in paths for number in _borne(ast.parse(path.read_text()))}


def _is_refused(where: type[BaseModel], field: str) -> bool:
    return any(isinstance(mark, Refused) for mark in where.model_fields[field].metadata)


BORNE = _numbers()


@pytest.mark.parametrize("number", range(FIRST, LAST + 1), ids=lambda number: f"S{number}")
def test_each_scenario_of_the_specification_has_a_test_or_is_refused(number: int) -> None:
    refused = NOT_BUILT.get(number)
    assert number in BORNE or (refused is not None and _is_refused(*refused)), (
        f"S{number}: needs a test named test_s{number}_... or with an id 'S{number} ...', found none"
    )


def test_no_test_bears_a_number_that_the_specification_does_not_have() -> None:
    assert set(range(FIRST, LAST + 1)) >= BORNE
