"""Read what a GGUF file holds from its header alone, without trusting a single length in it."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from modelops.artifacts.facts import Known
from modelops.artifacts.header import More, broken
from modelops.plan import Reason

MAX_HEADER_BYTES = 64 * 2**20
"""Vocabularies of 256k tokens with their merges stay under 16 MiB."""
MAX_TENSORS = 65_536
MAX_KEYS = 65_536
MAX_ARRAY = 2**24
MAX_KEPT_TEXT = 1024
MAX_KEPT_ARRAY = 4096
MAX_DIMENSIONS = 4

Scalar = int | float | bool | str

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9

TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""Name, elements of a block, bytes of a block.  Source: ggml.h; a test compares with the gguf package."""

_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
"""Value of ``general.file_type``.  Source: llama.h; a test compares with the gguf package."""


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the metadata.  ``numbers`` is empty for texts and for more than 4096 elements."""

    length: int
    numbers: tuple[int | float, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """What one file holds."""

    metadata: Mapping[str, Scalar | Array]
    """Without texts over 1024 bytes: chat templates are no facts."""
    tensors: int
    parameters: int
    tensor_bytes: int | None
    """None when a tensor has a type that this release does not know."""
    header_bytes: int = field(default=0)
    """Where the tensors begin, alignment included."""


class _Short(Exception):
    def __init__(self, wanted_bytes: int) -> None:
        super().__init__(wanted_bytes)
        self.wanted_bytes = wanted_bytes


class _Broken(Exception):
    def __init__(self, wanted: str, found: str) -> None:
        super().__init__(wanted, found)
        self.wanted, self.found = wanted, found


def read_header(data: bytes, file: str, file_bytes: int | None = None) -> Header | More | Reason:
    """Return the header that *data* begins with, what more is needed, or why it cannot be true.

    *file_bytes* is the size of the whole file; None skips the check that the tensors lie inside it.
    Every count is bounded before anything is made of it, so a hostile header costs no memory.

    Source: ggml, docs/gguf.md, versions 2 and 3, little-endian.
    """
    try:
        return _header(_Reader(data), file_bytes)
    except _Short as short:
        if short.wanted_bytes > MAX_HEADER_BYTES:
            return broken(file, f"a header of at most {MAX_HEADER_BYTES} bytes", "a longer one")
        if file_bytes is not None and short.wanted_bytes > file_bytes:
            return broken(file, "a whole GGUF header", f"a file that ends inside it after {file_bytes} bytes")
        whole = MAX_HEADER_BYTES if file_bytes is None else min(file_bytes, MAX_HEADER_BYTES)
        return More(max(short.wanted_bytes, min(2 * len(data), whole)))
    except _Broken as error:
        return broken(file, error.wanted, error.found)


def facts(header: Header) -> Known:
    """Return what the header tells of the model.

    A list per layer (head counts of hybrid models) gives its maximum, which plans too much memory
    rather than too little.
    """
    meta = header.metadata
    architecture = meta.get("general.architecture")
    prefix = f"{architecture}." if isinstance(architecture, str) else ""

    def number(key: str) -> int | None:
        value = meta.get(prefix + key)
        if isinstance(value, Array):
            value = max(value.numbers, default=None)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    heads, hidden = number("attention.head_count"), number("embedding_length")
    tokens = meta.get("tokenizer.ggml.tokens")
    licence = meta.get("general.license")
    file_type = meta.get("general.file_type")
    return {
        "architecture": architecture if isinstance(architecture, str) else None,
        "parameters": header.parameters,
        "quantization": _FILE_TYPES.get(file_type) if isinstance(file_type, int) else None,
        "contextTokens": number("context_length"),
        "layers": number("block_count"),
        "hiddenSize": hidden,
        "attentionHeads": heads,
        "kvHeads": number("attention.head_count_kv") or heads,
        "headDim": number("attention.key_length") or (hidden // heads if hidden and heads else None),
        "vocabulary": tokens.length if isinstance(tokens, Array) else number("vocab_size"),
        "slidingWindow": number("attention.sliding_window"),
        "weightsBytes": header.tensor_bytes,
        "license": licence if isinstance(licence, str) else None,
    }


def is_model(header: Header) -> bool:
    """Tell whether this is a model of its own, not a projector, adapter or table beside one."""
    kind = header.metadata.get("general.type", "model")
    return kind == "model" and header.metadata.get("general.architecture") != "clip"


class _Reader:
    """Take values from bytes in order; never look past their end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> int | float | bool:
        end = self.at + struct.calcsize(form)
        if end > len(self.data):
            raise _Short(end)
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at = end
        return value  # type: ignore[no-any-return]

    def count(self, form: str, limit: int, what: str) -> int:
        value = int(self.take(form))
        if value > limit:
            raise _Broken(f"at most {limit} {what}", f"{value}")
        return value

    def text(self, limit: int, what: str) -> bytes:
        length = self.count("<Q", limit, f"bytes of {what}")
        self.skip(length)
        return self.data[self.at - length : self.at]

    def skip(self, length: int) -> None:
        if self.at + length > len(self.data):
            raise _Short(self.at + length)
        self.at += length


def _header(reader: _Reader, file_bytes: int | None) -> Header:
    if len(reader.data) >= 4 and reader.data[:4] != b"GGUF":
        raise _Broken("the letters GGUF at its beginning", "others")
    reader.skip(4)
    version = int(reader.take("<I"))
    if version not in (2, 3):
        raise _Broken("GGUF version 2 or 3, little-endian", f"version {version}")
    tensors = reader.count("<Q", MAX_TENSORS, "tensors")
    keys = reader.count("<Q", MAX_KEYS, "metadata keys")
    metadata: dict[str, Scalar | Array] = {}
    seen: set[bytes] = set()
    for _ in range(keys):
        key = reader.text(65_535, "a metadata key")
        if key in seen:
            raise _Broken("each metadata key once", "one twice")
        seen.add(key)
        value = _value(reader, int(reader.take("<I")))
        if value is not None:
            metadata[_decoded(key)] = value
    return _tensors(reader, tensors, metadata, file_bytes)


def _value(reader: _Reader, kind: int) -> Scalar | Array | None:
    if kind in _SCALARS:
        return reader.take(_SCALARS[kind])
    if kind == _STRING:
        text = reader.text(MAX_HEADER_BYTES, "a text")
        return _decoded(text) if len(text) <= MAX_KEPT_TEXT else None
    if kind == _ARRAY:
        return _array(reader)
    raise _Broken("a metadata type from 0 to 12", f"{kind}")


def _array(reader: _Reader) -> Array:
    kind = int(reader.take("<I"))
    length = reader.count("<Q", MAX_ARRAY, "elements in an array")
    if kind in _SCALARS:
        form = _SCALARS[kind]
        begin = reader.at
        reader.skip(length * struct.calcsize(form))
        if length > MAX_KEPT_ARRAY:
            return Array(length)
        return Array(length, struct.unpack_from(f"<{length}{form[1]}", reader.data, begin))
    if kind != _STRING:
        raise _Broken("arrays of numbers or texts", f"one of type {kind}")
    for _ in range(length):
        reader.text(MAX_HEADER_BYTES, "a text")
    return Array(length)


def _tensors(
    reader: _Reader, count: int, metadata: Mapping[str, Scalar | Array], file_bytes: int | None
) -> Header:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 2**16 or alignment % 8:
        raise _Broken("an alignment that is a multiple of 8 up to 65536", f"{alignment!r}")
    names: set[bytes] = set()
    parameters, total, past_end = 0, 0, 0
    known = True
    for _ in range(count):
        name = reader.text(255, "a tensor name")
        if name in names:
            raise _Broken("each tensor name once", "one twice")
        names.add(name)
        elements, size, offset = _tensor(reader)
        if offset % alignment:
            raise _Broken(f"tensor offsets that are multiples of {alignment}", f"{offset}")
        parameters += elements
        known = known and size is not None
        total += size or 0
        past_end = max(past_end, offset + (size or 0))
    start = -(-reader.at // alignment) * alignment
    if file_bytes is not None and count and start + past_end > file_bytes:
        raise _Broken(f"{start + past_end} bytes for header and tensors", f"{file_bytes}")
    return Header(metadata, count, parameters, total if known else None, start)


def _tensor(reader: _Reader) -> tuple[int, int | None, int]:
    """Return elements, bytes (None: unknown type) and offset of the next tensor."""
    dimensions = reader.count("<I", MAX_DIMENSIONS, "dimensions of a tensor")
    shape = [reader.count("<Q", 2**48, "elements of a dimension") for _ in range(dimensions)]
    kind = int(reader.take("<I"))
    offset = int(reader.take("<Q"))
    elements = prod(shape)
    if elements > 2**53 or offset > 2**53:
        raise _Broken("tensors of at most 2**53 elements", "a larger one")
    if kind not in TENSOR_TYPES:
        return elements, None, offset
    name, block, block_bytes = TENSOR_TYPES[kind]
    if shape and shape[0] % block:
        raise _Broken(f"rows of {name} in blocks of {block}", f"a row of {shape[0]}")
    return elements, elements // block * block_bytes, offset


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")
