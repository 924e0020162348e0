"""Write JSON in the one form that can be hashed and compared byte by byte."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 64

NOT_HASHED = frozenset({"lifecycle", "createdBy"})
"""Fields of a version's spec that may change, or that its author does not write."""


class NotCanonical(ValueError):
    """The value lies outside the limits in which all canonical forms agree; the text says where."""


def canonical(value: Any) -> bytes:
    """Return *value* as canonical JSON: UTF-8, sorted keys, no spaces, no needless escapes.

    Inside the limits RFC 8785 gives the same bytes: keys are ASCII strings, integers lie within
    plus or minus 2**53-1, there are no floats and no lone surrogates.  Law: parsing the result
    and writing it again changes nothing.

    Raises:
        NotCanonical: a value is outside the limits.

    Source: research/governance.md 4.2.
    """
    _check(value, "$", 0)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def parse(text: bytes) -> Any:
    """Return the value of canonical JSON.

    Raises:
        NotCanonical: it is no JSON, a key is repeated, or *text* is not the canonical form.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotCanonical(f"needs JSON in UTF-8, found {type(error).__name__}") from error
    if canonical(value) != text:
        raise NotCanonical("needs the canonical form, found the same value written otherwise")
    return value


def spec_hash(spec: Mapping[str, Any]) -> str:
    """Return ``sha256:`` and the hash of a version's spec without what may change later.

    An author gets the same from the own manifest: deprecating a version, or the stamp of its
    creator, must not void an approval.

    Raises:
        NotCanonical: the spec holds a value outside the limits of `canonical`.

    Source: research/governance.md 2.3.
    """
    hashed = {key: value for key, value in spec.items() if key not in NOT_HASHED}
    return "sha256:" + hashlib.sha256(canonical(hashed)).hexdigest()


def _check(value: Any, where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotCanonical(f"{where}: needs at most {MAX_DEPTH} levels, found more")
    match value:
        case None | bool():
            pass
        case int():
            if abs(value) > MAX_INTEGER:
                raise NotCanonical(f"{where}: needs an integer within 2**53-1, found a larger one")
        case str():
            _check_text(value, where)
        case list() | tuple():
            for index, item in enumerate(value):
                _check(item, f"{where}[{index}]", depth + 1)
        case dict():
            _check_fields(value, where, depth)
        case _:
            raise NotCanonical(
                f"{where}: needs text, integers, booleans, lists and objects, found {type(value).__name__}; "
                "write a decimal as a string"
            )


def _check_fields(fields: dict[Any, Any], where: str, depth: int) -> None:
    for key, item in fields.items():
        if not isinstance(key, str) or not key.isascii():
            raise NotCanonical(f"{where}: needs ASCII keys, found {ascii(key)[:64]}")
        _check(item, f"{where}.{key}", depth + 1)


def _check_text(value: str, where: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise NotCanonical(f"{where}: needs Unicode text, found a lone surrogate") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise NotCanonical("needs each key once, found one twice")
    return fields
