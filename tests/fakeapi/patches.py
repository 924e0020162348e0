"""Merge patches (RFC 7396) and JSON patches (RFC 6902)."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from tests.fakeapi.answers import Refusal


def merge(value: Any, patch: Any) -> Any:
    """Return *value* after a merge patch; lists are replaced whole."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    out = dict(value) if isinstance(value, Mapping) else {}
    for name, item in patch.items():
        if item is None:
            out.pop(name, None)
        else:
            out[name] = merge(out.get(name), item)
    return out


def json_patch(value: Any, operations: Iterable[Mapping[str, Any]]) -> Any:
    """Return *value* after a JSON patch.

    Raises:
        Refusal: a ``test`` failed, or a path leads nowhere: nothing is done.
    """
    value = copy.deepcopy(value)
    for one in operations:
        *way, last = (part.replace("~1", "/").replace("~0", "~") for part in one["path"].split("/")[1:])
        try:
            here = value
            for part in way:
                here = here[_index(here, part)]
            _operate(here, last, one)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise _wrong(f"{one['op']} operation does not apply: missing path: {one['path']}") from error
    return value


def _operate(here: Any, last: str, one: Mapping[str, Any]) -> None:
    match one["op"]:
        case "test":
            if here[_index(here, last)] != one["value"]:
                raise _wrong(f"testing value {one['path']} failed: test failed")
        case "add" if isinstance(here, list):
            here.insert(len(here) if last == "-" else int(last), one["value"])
        case "add":
            here[last] = one["value"]
        case "replace":
            here[_index(here, last)]  # it must be there
            here[_index(here, last)] = one["value"]
        case "remove":
            del here[_index(here, last)]
        case other:
            raise _wrong(f"unsupported operation {other}")


def _index(here: Any, part: str) -> Any:
    return int(part) if isinstance(here, list) else part


def _wrong(why: str) -> Refusal:
    return Refusal(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")
