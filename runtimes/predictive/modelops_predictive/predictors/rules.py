"""Decision tables: rules in JSON, looked up and never evaluated as code.  README.md has the format."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelops_predictive import rows
from modelops_predictive.predictors.base import Array, BadInput, CannotLoad, Inputs, Tensor

FORMAT = "modelops.dev/decision-table/v1"
MAX_BYTES = 8 * 2**20
MAX_RULES = 10_000
TYPES = {"number": "FP64", "text": "BYTES", "boolean": "BOOL"}
"""Type of a table and the protocol's."""
POLICIES = ("First", "Unique")
FIRED, FACTS = "fired_rules", "facts"
"""Outputs that every answer has: ids of the rules that decided, and what they looked at, as JSON by row."""

Value = float | str | bool | None
Test = Callable[[Value], bool]
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "lessThan": lambda value, limit: value < limit,
    "atMost": lambda value, limit: value <= limit,
    "moreThan": lambda value, limit: value > limit,
    "atLeast": lambda value, limit: value >= limit,
}
"""For numbers only."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of a table: holds when all tests hold."""

    id: str
    when: Mapping[str, tuple[Test, ...]]
    then: tuple[Value, ...]

    def holds(self, facts: Mapping[str, Value]) -> bool:
        return all(test(facts[name]) for name, tests in self.when.items() for test in tests)


@dataclass(frozen=True, slots=True)
class Table:
    """A decision table; the same facts always give the same answer."""

    types: Mapping[str, str]
    results: Mapping[str, str]
    policy: str
    rules: tuple[Rule, ...]
    otherwise: tuple[Value, ...]

    @property
    def inputs(self) -> Sequence[Tensor]:
        return [Tensor(name, TYPES[kind], (-1, 1)) for name, kind in self.types.items()]

    @property
    def outputs(self) -> Sequence[Tensor]:
        own = [Tensor(name, TYPES[kind], (-1, 1)) for name, kind in self.results.items()]
        return [*own, Tensor(FIRED, "BYTES", (-1, 1)), Tensor(FACTS, "BYTES", (-1, 1))]

    def answer(self, inputs: Inputs, wanted: Sequence[str]) -> Mapping[str, Array]:
        """Return the decisions; the fired rules and the facts come along whatever was wanted."""
        decided = [self._decide(facts) for facts in self._facts(inputs)]
        out: dict[str, Array] = {}
        for at, (name, kind) in enumerate(self.results.items()):
            if not wanted or name in wanted:
                out[name] = _column([then[at] for then, _, _ in decided], kind)
        out[FIRED] = _column([json.dumps(fired) for _, fired, _ in decided], "text")
        out[FACTS] = _column([json.dumps(facts, sort_keys=True) for _, _, facts in decided], "text")
        return out

    def _decide(self, facts: Mapping[str, Value]) -> tuple[tuple[Value, ...], list[str], Mapping[str, Value]]:
        holding = (rule for rule in self.rules if rule.holds(facts))
        first = next(holding, None)
        if first is None:
            return self.otherwise, [], facts
        second = next(holding, None) if self.policy == "Unique" else None
        if second is not None:
            raise BadInput(
                f"rules: needs at most one rule for the facts, found {first.id} and {second.id}; narrow one, "
                "or set hitPolicy to First"
            )
        return first.then, [first.id], facts

    def _facts(self, inputs: Inputs) -> list[dict[str, Value]]:
        unknown = [name for name in inputs if name not in self.types]
        missing = [name for name in self.types if name not in inputs]
        if unknown or missing:
            raise BadInput(
                f"inputs: needs {', '.join(self.types)}, found {', '.join(inputs) or 'none'}; send one "
                "tensor for each"
            )
        columns = {name: _values(name, kind, inputs[name]) for name, kind in self.types.items()}
        if len({len(values) for values in columns.values()}) > 1:
            raise BadInput("inputs: needs columns of one length, found others; send the same number of rows")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def load(file: Path) -> Table:
    """Return the table.

    Raises:
        CannotLoad: it is too large, no JSON, or does not follow the format, with the place.
    """
    if file.stat().st_size > MAX_BYTES:
        raise CannotLoad(
            f"{file.name}: needs at most {MAX_BYTES} bytes, found {file.stat().st_size}; split the table"
        )
    try:
        return read(json.loads(file.read_text(encoding="utf-8")))
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError) as error:
        raise CannotLoad(f"{file.name}: needs JSON, found {type(error).__name__}; correct it") from error
    except CannotLoad as error:
        raise CannotLoad(f"{file.name}: {error}") from error


def read(table: Any) -> Table:
    """Return the table that a JSON value describes.

    Raises:
        CannotLoad: it does not follow the format, with the place.
    """
    keys = {"format", "hitPolicy", "inputs", "outputs", "rules", "otherwise"}
    _want_keys("table", table, keys | {"description"}, keys)
    if table["format"] != FORMAT:
        raise _wrong("format", FORMAT, table["format"])
    if table["hitPolicy"] not in POLICIES:
        raise _wrong("hitPolicy", " or ".join(POLICIES), table["hitPolicy"])
    types, results = _names("inputs", table["inputs"]), _names("outputs", table["outputs"])
    taken = {FIRED, FACTS} & set(results)
    if taken:
        raise _wrong("outputs", f"other names than {FIRED} and {FACTS}", min(taken))
    listed = table["rules"]
    if not isinstance(listed, list) or len(listed) > MAX_RULES:
        raise _wrong("rules", f"a list of at most {MAX_RULES}", type(listed).__name__)
    rules = tuple(_rule(f"rules[{at}]", rule, types, results) for at, rule in enumerate(listed))
    if len({rule.id for rule in rules}) < len(rules):
        raise _wrong("rules", "different ids", "one id twice")
    return Table(types, results, table["hitPolicy"], rules, _then("otherwise", table["otherwise"], results))


def _names(where: str, listed: Any) -> dict[str, str]:
    if not isinstance(listed, list) or not listed:
        raise _wrong(where, "a list of names and types", type(listed).__name__)
    found: dict[str, str] = {}
    for at, one in enumerate(listed):
        _want_keys(f"{where}[{at}]", one, {"name", "type", "description"}, {"name", "type"})
        name, kind = one["name"], one["type"]
        if not isinstance(name, str) or not name or name in found:
            raise _wrong(f"{where}[{at}].name", "a name of its own", name)
        if kind not in TYPES:
            raise _wrong(f"{where}[{at}].type", ", ".join(TYPES), kind)
        found[name] = kind
    return found


def _rule(where: str, rule: Any, types: Mapping[str, str], results: Mapping[str, str]) -> Rule:
    _want_keys(where, rule, {"id", "when", "then", "description"}, {"id", "when", "then"})
    if not isinstance(rule["id"], str) or not rule["id"]:
        raise _wrong(f"{where}.id", "a text", rule["id"])
    _want_keys(f"{where}.when", rule["when"], set(types), set())
    when = {name: _tests(f"{where}.when.{name}", types[name], test) for name, test in rule["when"].items()}
    return Rule(rule["id"], when, _then(f"{where}.then", rule["then"], results))


def _then(where: str, then: Any, results: Mapping[str, str]) -> tuple[Value, ...]:
    _want_keys(where, then, set(results), set(results))
    for name, kind in results.items():
        if not _is_a(kind, then[name]):
            raise _wrong(f"{where}.{name}", f"a {kind}", then[name])
    return tuple(then[name] for name in results)


def _tests(where: str, kind: str, test: Any) -> tuple[Test, ...]:
    """Return the tests of one cell: a value is equality, an object holds named tests that all must hold."""
    if not isinstance(test, dict):
        return (_equals(where, kind, test),)
    if not test:
        raise _wrong(where, "a value or a test", "nothing")
    return tuple(_test(f"{where}.{word}", kind, word, operand) for word, operand in test.items())


def _test(where: str, kind: str, word: str, operand: Any) -> Test:
    if word == "isMissing":
        if not isinstance(operand, bool):
            raise _wrong(where, "true or false", operand)
        return lambda value: (value is None) is operand
    if word in ("in", "notIn"):
        if not isinstance(operand, list) or not all(_is_a(kind, one) for one in operand):
            raise _wrong(where, f"a list of {kind} values", operand)
        among = frozenset(operand)
        return lambda value: value is not None and (value in among) is (word == "in")
    if word in COMPARISONS:
        if kind != "number" or not _is_a(kind, operand):
            raise _wrong(where, "a number, for an input of type number", operand)
        compare = COMPARISONS[word]
        return lambda value: value is not None and compare(value, operand)
    raise _wrong(where, ", ".join(("in", "notIn", "isMissing", *COMPARISONS)), word)


def _equals(where: str, kind: str, wanted: Any) -> Test:
    if not _is_a(kind, wanted):
        raise _wrong(where, f"a {kind}", wanted)
    return lambda value: value is not None and value == wanted


def _is_a(kind: str, value: Any) -> bool:
    match kind:
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case "text":
            return isinstance(value, str)
        case _:
            return isinstance(value, bool)


def _want_keys(where: str, value: Any, known: set[str], needed: set[str]) -> None:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", type(value).__name__)
    unknown, missing = sorted(set(value) - known), sorted(needed - set(value))
    if unknown or missing:
        found = unknown[0] if unknown else f"no {missing[0]}"
        raise _wrong(where, ", ".join(sorted(known)), found)


def _wrong(where: str, wanted: str, found: Any) -> CannotLoad:
    return CannotLoad(f"{where}: needs {wanted}, found {str(found)[:80]}; correct the table")


def _values(name: str, kind: str, value: Array) -> list[Value]:
    """Return a column; numbers that are NaN and empty texts are missing."""
    flat = rows.column(name, value).tolist()
    is_number = value.dtype.kind in "iuf"
    if kind == "number" and is_number:
        return [None if math.isnan(one) else float(one) for one in flat]
    if kind == "boolean" and value.dtype.kind == "b":
        return [bool(one) for one in flat]
    if kind == "text" and value.dtype.kind == "O":
        return [str(one) if one else None for one in flat]
    raise BadInput(f"inputs: {name} needs {TYPES[kind]}, found another datatype; send its values as {kind}")


def _column(values: Sequence[Value], kind: str) -> Array:
    dtype = {"number": "float64", "text": "object", "boolean": "bool"}[kind]
    return np.array(values, dtype=dtype).reshape(-1, 1)
