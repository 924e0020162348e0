"""What a Job that judges something says with its last words: one protocol for evaluations, drift and quality.

A Job answers by its termination message: ``{"v": 1, "verdict": "Pass|Warn|Fail", "samples": N,
"metrics": {NAME: TEXT}}``.  The message is untrusted, and bound to the Job that we made, never to what it
claims: anything oversized, cut, malformed or of an unknown kind is no answer, neither Pass nor Fail.

Source: research/governance.md 5.6.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

LONGEST_MESSAGE_BYTES = 4096
MOST_METRICS = 20
LONGEST_TEXT = 64


class Grade(StrEnum):
    """What was found.  No answer is none of these."""

    PASS = "Pass"
    WARN = "Warn"
    """Neither shown to be good nor bad: a person decides."""
    FAIL = "Fail"


@dataclass(frozen=True, slots=True)
class Result:
    """The answer of a Job, with the numbers that it decided by, as texts."""

    grade: Grade
    samples: int | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the numbers in one line: ``accuracy 0.91, refusals 2%, n=762``."""
        parts = [f"{name} {value}" for name, value in self.metrics.items()]
        if self.samples is not None:
            parts.append(f"n={self.samples}")
        return ", ".join(parts) or "no numbers"


def read(message: str) -> Result | None:
    """Return what the last words of a Job mean; None: nothing that can be used."""
    try:
        if not 0 < len(message.encode()) <= LONGEST_MESSAGE_BYTES:
            return None
        said = json.loads(message, object_pairs_hook=_once, parse_constant=_finite)
        return _parse(said) if isinstance(said, dict) and said.get("v") == 1 else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _parse(said: Mapping[str, Any]) -> Result:
    metrics = said.get("metrics", {})
    if not isinstance(metrics, dict) or len(metrics) > MOST_METRICS:
        raise ValueError("wanted an object with a few metrics")
    samples = said.get("samples")
    if samples is not None and (not isinstance(samples, int) or isinstance(samples, bool) or samples < 0):
        raise ValueError("wanted a whole number of samples")
    return Result(
        Grade(said["verdict"]),
        samples,
        {_text(name): _text(value) for name, value in metrics.items()},
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; a key that comes twice means two things."""
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("wanted each key once")
    return out


def _finite(text: str) -> float:
    raise ValueError(f"wanted finite numbers, found {text}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
        raise ValueError(f"wanted a printable text of 1 to {LONGEST_TEXT} letters")
    return value
