"""Put together what is known of a model, each fact with the place it was read from."""

from collections.abc import Iterable, Mapping
from typing import Any

from modelops.artifacts.canonical import MAX_INTEGER

MAX_TEXT = 128

FIELDS = (
    "architecture", "parameters", "quantization", "contextTokens", "layers", "hiddenSize",
    "attentionHeads", "kvHeads", "headDim", "vocabulary", "slidingWindow", "weightsBytes", "mainFile",
    "attention",
    "format", "license", "gated", "remoteCode", "pickle",
)  # fmt: skip
"""Every fact, as it is called in ``status.resolved``."""

WHOLE = ("mainFile", "attention")
"""Texts that are never cut."""

Known = Mapping[str, int | str | bool | None]
"""Facts by field; None and a missing field both mean unknown."""


def merge(found: Iterable[tuple[str, Known]]) -> dict[str, Any]:
    """Return the facts of all sources with ``provenance``, camelCase; the first that knows wins.

    *found* holds pairs of a source ("config.json", "hub") and what it knows, the most trusted first.
    What comes from a file is bounded: a text is cut at 128 characters and loses control characters,
    a number that is negative or past 2**53-1 counts as unknown.  ``mainFile`` and
    ``attention`` stay as they are: a name that is cut names nothing, half of a JSON text says nothing, and
    both were checked where they were made.
    """
    facts: dict[str, Any] = {}
    provenance: dict[str, str] = {}
    for source, known in found:
        for field in FIELDS:
            value = known.get(field) if field in WHOLE else _bounded(known.get(field))
            if value is not None and field not in facts:
                facts[field] = value
                provenance[field] = source
    return {**facts, "provenance": provenance}


def _bounded(value: object) -> int | str | bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if 0 <= value <= MAX_INTEGER else None
    if isinstance(value, str):
        printable = "".join(letter for letter in value if letter.isprintable())
        return printable[:MAX_TEXT] or None
    return None
