"""safetensors headers, made by hand and compared with huggingface_hub."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import parse_local_safetensors_file_metadata
from hypothesis import given
from hypothesis import strategies as st

from modelops.artifacts import safetensors
from modelops.artifacts.header import More
from modelops.plan import Reason


def file_of(header: Any, tensor_bytes: int) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(tensor_bytes)


def tensor(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


GOOD = file_of(
    {
        "__metadata__": {"format": "pt"},
        "b": tensor("BF16", [4, 8], 40, 104),
        "a": tensor("F32", [10], 0, 40),
        "scalar": tensor("I64", [], 104, 112),
        "none": tensor("F32", [0, 5], 112, 112),
    },
    112,
)


def test_bytes_and_parameters_are_those_huggingface_hub_counts(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(GOOD)
    header = safetensors.read_header(GOOD, "m.safetensors", len(GOOD))
    assert isinstance(header, safetensors.Header)
    theirs = parse_local_safetensors_file_metadata(tmp_path / "m.safetensors")
    assert {key: count for key, count in header.elements.items() if count} == theirs.parameter_count
    assert (header.tensor_bytes, header.parameters) == (112, 43)


@given(st.integers(0, len(GOOD)))
def test_every_beginning_asks_for_the_whole_header(cut: int) -> None:
    found = safetensors.read_header(GOOD[:cut], "m", len(GOOD))
    assert isinstance(found, safetensors.Header) or (isinstance(found, More) and found.wanted_bytes > cut)


@given(st.binary(max_size=200))
def test_chance_never_breaks_the_reader(noise: bytes) -> None:
    found = safetensors.read_header(file_of(noise, 0), "m", len(noise) + 8)
    assert isinstance(found, safetensors.Header | Reason)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack("<Q", 100_000_001), id="header too long"),
        pytest.param(struct.pack("<Q", 5000) + b"{}", id="header past the end"),
        pytest.param(file_of(b"[]", 0), id="no object"),
        pytest.param(file_of(b'{"a":1', 0), id="no JSON"),
        pytest.param(file_of(b"[" * 50_000, 0), id="endless nesting"),
        pytest.param(file_of({"a": 1}, 0), id="no tensor"),
        pytest.param(file_of({"a": tensor("F32", [2], 0, 4)}, 4), id="size against shape"),
        pytest.param(file_of({"a": tensor("F32", [-1], 0, 4)}, 4), id="negative size"),
        pytest.param(file_of({"a": tensor("F32", [1], 4, 8)}, 8), id="gap before"),
        pytest.param(
            file_of({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 2, 6)}, 6), id="overlap"
        ),
        pytest.param(file_of({"a": tensor("F32", [1], 0, 4)}, 9), id="bytes behind"),
        pytest.param(file_of({"a": tensor("F32", [1], 0, 4)}, 2), id="truncated"),
        pytest.param(file_of({"a": tensor("F32", [True], 0, 4)}, 4), id="a boolean as size"),
        pytest.param(file_of(b'{"a":{},"a":{}}', 0), id="a name twice"),
    ],
)
def test_hostile_headers_are_refused_with_a_sentence(data: bytes) -> None:
    reason = safetensors.read_header(data, "m.safetensors", len(data))
    assert isinstance(reason, Reason)
    assert reason.message.startswith("m.safetensors: needs ")


def test_an_unknown_type_counts_by_its_offsets() -> None:
    data = file_of({"a": tensor("F2_NEW", [100], 0, 25)}, 25)
    header = safetensors.read_header(data, "m", len(data))
    assert isinstance(header, safetensors.Header)
    assert header.tensor_bytes == 25


@pytest.mark.parametrize(
    ("paths", "index", "wanted"),
    [
        pytest.param(["model.safetensors", "config.json"], None, ["model.safetensors"], id="one file"),
        pytest.param(
            ["a-1.safetensors", "a-2.safetensors", "model.safetensors"],
            {"weight_map": {"x": "a-1.safetensors", "y": "a-2.safetensors", "z": "a-1.safetensors"}},
            ["a-1.safetensors", "a-2.safetensors"],
            id="the index decides",
        ),
        pytest.param(
            ["m-1.safetensors", "consolidated.safetensors", "original/m.safetensors"],
            None,
            ["m-1.safetensors"],
            id="second copies do not count",
        ),
        pytest.param(["unet/m.safetensors"], None, ["unet/m.safetensors"], id="only a folder"),
    ],
)
def test_which_files_an_engine_loads(paths: list[str], index: Any, wanted: list[str]) -> None:
    assert list(safetensors.weight_files(paths, index)) == wanted
