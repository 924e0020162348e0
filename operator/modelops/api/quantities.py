"""Parse and print the small values that people write: durations, memory, percentages, points."""

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Pattern:
    """Put a pattern and lengths into the schema only.

    pydantic does not check them: a value that slipped past admission is refused where it is used,
    with its field path, and does not make the whole object unreadable.
    """

    pattern: str
    min_length: int
    max_length: int

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        lengths = {"minLength": self.min_length, "maxLength": self.max_length}
        return {**handler(core), "pattern": self.pattern, **lengths}


_DURATION = r"^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$"
_LONG_DURATION = r"^([0-9]{1,5}d|([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?)$"
_MEMORY = r"^[0-9]{1,12}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"
_PERCENT = r"^[0-9]{1,4}(\.[0-9]{1,4})?%$"
_POINTS = r"^[0-9]{1,3}(\.[0-9]{1,4})?pp$"

Duration = Annotated[str, Pattern(_DURATION, 2, 24)]
"""Such as 30s, 2m or 1h30m: what CEL's duration() reads."""
LongDuration = Annotated[str, Pattern(_LONG_DURATION, 2, 24)]
"""As Duration, or whole days alone, such as 90d, which CEL cannot read."""
Memory = Annotated[str, Pattern(_MEMORY, 1, 20)]
"""Such as 80Gi."""
Percent = Annotated[str, Pattern(_PERCENT, 2, 10)]
"""Such as 10% or 0.5%."""
Points = Annotated[str, Pattern(_POINTS, 3, 10)]
"""Percentage points, such as 1pp."""

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BYTES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}


def parse_duration(text: str) -> timedelta:
    """Return the duration that *text* writes.

    Raises:
        ValueError: *text* is not of the form 30s, 2m, 1h30m or 90d.
    """
    if not text or not re.fullmatch(_LONG_DURATION[1:-1], text):
        raise ValueError(f"wanted a duration such as 30s, 2m, 1h30m or 90d, found {text!r}")
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9]+)([dhms])", text))
    return timedelta(seconds=seconds)


def print_duration(duration: timedelta) -> str:
    """Return *duration* as text; parsing it gives back every non-negative whole number of seconds."""
    seconds = int(duration.total_seconds())
    if seconds and seconds % _SECONDS["d"] == 0:
        return f"{seconds // _SECONDS['d']}d"
    hours, rest = divmod(seconds, 3600)
    parts = ((hours, "h"), (rest // 60, "m"), (rest % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def parse_memory(text: str) -> int:
    """Return the bytes that *text* writes, rounded up.

    Raises:
        ValueError: *text* is not a number with an optional unit such as Gi.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?", text)
    if match is None:
        raise ValueError(f"wanted an amount of memory such as 80Gi, found {text!r}")
    exact = Decimal(match[1]) * _BYTES[match[2] or ""]
    return int(exact.to_integral_value(rounding="ROUND_CEILING"))


def print_memory(count: int) -> str:
    """Return *count* bytes in the largest binary unit that divides it; parsing it gives it back."""
    for unit in ("Pi", "Ti", "Gi", "Mi", "Ki"):
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return str(count)


def readable_bytes(count: int) -> str:
    """Return *count* bytes for people, rounded: 942.3 MiB."""
    for unit in ("Pi", "Ti", "Gi", "Mi", "Ki"):
        if count >= _BYTES[unit]:
            return f"{count / _BYTES[unit]:.1f} {unit}B"
    return f"{count} B"


def parse_percent(text: str) -> float:
    """Return the ratio that *text* writes: 10% is 0.1.

    Raises:
        ValueError: *text* is not a number with a percent sign.
    """
    if not re.fullmatch(_PERCENT[1:-1], text):
        raise ValueError(f"wanted a percentage such as 10%, found {text!r}")
    return float(Decimal(text.removesuffix("%")) / 100)


def parse_points(text: str) -> float:
    """Return the difference of two ratios that *text* writes: 1pp is 0.01.

    Raises:
        ValueError: *text* is not a number with the suffix pp.
    """
    if not re.fullmatch(_POINTS[1:-1], text):
        raise ValueError(f"wanted percentage points such as 1pp, found {text!r}")
    return float(Decimal(text.removesuffix("pp")) / 100)


def print_percent(ratio: float) -> str:
    """Return *ratio* as a percentage of at most four decimals: 0.005 is 0.5%."""
    return f"{_trim(ratio * 100)}%"


def print_points(ratio: float) -> str:
    """Return *ratio* as percentage points of at most four decimals: 0.01 is 1pp."""
    return f"{_trim(ratio * 100)}pp"


def _trim(number: float) -> str:
    return f"{number:.4f}".rstrip("0").rstrip(".")


def cel_points(expression: str) -> str:
    """Return a CEL expression for the percentage points, as a number, that the text *expression* writes."""
    return f"double({expression}.replace('pp', ''))"


def cel_percent(expression: str) -> str:
    """Return a CEL expression for the percentage, as a number, that the text *expression* writes."""
    return f"double({expression}.replace('%', ''))"
