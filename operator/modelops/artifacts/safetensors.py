"""Read what tensors a safetensors file holds from its header alone."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from modelops.artifacts.header import More, broken
from modelops.plan import Reason

MAX_HEADER_BYTES = 100_000_000
"""What the format allows.  Source: huggingface/safetensors, README, "Format"."""

INDEX = "model.safetensors.index.json"

_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of one element; the size of an unknown type is taken from its offsets."""


@dataclass(frozen=True, slots=True)
class Header:
    """What one file holds.  ``elements`` counts tensor elements by type."""

    header_bytes: int
    """Where the tensors begin."""
    tensor_bytes: int
    elements: Mapping[str, int]

    @property
    def parameters(self) -> int:
        """Elements of all tensors; packed weights (4 bits in a U8) count as what they are stored in."""
        return sum(self.elements.values())


def read_header(data: bytes, file: str, file_bytes: int | None = None) -> Header | More | Reason:
    """Return the header that *data* begins with, what more is needed, or why it cannot be true.

    *file_bytes* is the size of the whole file; None skips that check.  The tensors must fill the
    file without gap or overlap, as the format asks.
    """
    if len(data) < 8:
        return More(8)
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        return broken(file, f"a header of at most {MAX_HEADER_BYTES} bytes", f"one of {length}")
    start = 8 + length
    if file_bytes is not None and start > file_bytes:
        return broken(file, f"{start} bytes for its header", f"{file_bytes} in all")
    if len(data) < start:
        return More(start)
    tensors = _object(data[8:start])
    if tensors is None:
        return broken(file, "a JSON object with unique names as header", "something else")
    return _header(tensors, file, start, file_bytes)


def weight_files(paths: Iterable[str], index: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the safetensors files that an engine loads, sorted.

    With an *index* those it names.  Without: those at the root, less ``consolidated*``, which is a
    second copy (as are the folders ``original/`` and ``metal/``).

    Source: research/engines.md 4.2 (gpt-oss-20b holds 25.63 GiB of files and loads 13.72).
    """
    present = {path for path in paths if path.endswith(".safetensors")}
    if index is not None:
        named = index.get("weight_map")
        listed = named.values() if isinstance(named, dict) else ()
        return tuple(sorted({name for name in listed if isinstance(name, str)}))
    root = {path for path in present if "/" not in path and not path.startswith("consolidated")}
    if "model.safetensors" in root:
        return ("model.safetensors",)
    return tuple(sorted(root or present))


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name twice")
    return fields


def _header(tensors: dict[str, Any], file: str, start: int, file_bytes: int | None) -> Header | Reason:
    elements: dict[str, int] = {}
    spans: list[tuple[int, int]] = []
    for name, tensor in tensors.items():
        if name == "__metadata__":
            continue
        seen = _tensor(tensor)
        if seen is None:
            return broken(file, "dtype, shape and data_offsets that agree for each tensor", "one without")
        dtype, count, begin, end = seen
        elements[dtype] = elements.get(dtype, 0) + count
        spans.append((begin, end))
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            return broken(file, f"a tensor that begins at byte {position}", f"the next at {begin}")
        position = end
    if file_bytes is not None and start + position != file_bytes:
        return broken(file, f"{start + position} bytes for header and tensors", f"{file_bytes}")
    return Header(start, position, elements)


def _tensor(tensor: object) -> tuple[str, int, int, int] | None:
    if not isinstance(tensor, dict):
        return None
    dtype, shape, offsets = tensor.get("dtype"), tensor.get("shape"), tensor.get("data_offsets")
    sizes, span = _naturals(shape), _naturals(offsets)
    if not isinstance(dtype, str) or sizes is None or span is None or len(span) != 2:
        return None
    begin, end = span
    count = prod(sizes)
    bits = _BITS.get(dtype)
    if end < begin or (bits is not None and count * bits != (end - begin) * 8):
        return None
    return dtype, count, begin, end


def _naturals(value: object) -> list[int] | None:
    if isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value):
        return value
    return None
