"""GGUF headers, against files of the gguf package and made by hand."""

import io
import re
import struct
from pathlib import Path

import gguf as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.artifacts import gguf
from modelops.artifacts.header import More
from modelops.plan import Reason


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def head(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def tensor(name: bytes, shape: list[int], kind: int = 0, offset: int = 0) -> bytes:
    return (
        text(name)
        + struct.pack("<I", len(shape))
        + struct.pack(f"<{len(shape)}Q", *shape)
        + struct.pack("<IQ", kind, offset)
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model with every sort of metadata, written by the gguf package."""
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    writer = oracle.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(64)
    writer.add_block_count(3)
    writer.add_head_count(8)
    writer.add_head_count_kv([4, 2, 4])
    writer.add_sliding_window(1024)
    writer.add_license("apache-2.0")
    writer.add_file_type(oracle.LlamaFileType.MOSTLY_Q8_0)
    writer.add_token_list([f"token{number}" for number in range(500)])
    writer.add_token_scores([0.5] * 500)
    writer.add_chat_template("x" * 5000)
    writer.add_bool("some.flag", True)
    writer.add_float32("some.number", 0.25)
    writer.add_tensor("a", np.ones((4, 64), dtype=np.float16))
    quantized = oracle.quants.quantize(np.ones((2, 64), dtype=np.float32), oracle.GGMLQuantizationType.Q8_0)
    writer.add_tensor("b", quantized, raw_dtype=oracle.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_facts_are_those_the_writer_put_in(model: bytes) -> None:
    header = gguf.read_header(model, "m.gguf", len(model))
    assert isinstance(header, gguf.Header)
    assert dict(gguf.facts(header)) == {
        "architecture": "llama", "parameters": 384, "quantization": "Q8_0", "contextTokens": 4096,
        "layers": 3,
        "hiddenSize": 64, "attentionHeads": 8, "kvHeads": 4, "headDim": 8, "vocabulary": 500,
        "slidingWindow": 1024, "weightsBytes": 512 + 136, "license": "apache-2.0",
    }  # fmt: skip
    assert gguf.is_model(header)
    assert "tokenizer.chat_template" not in header.metadata


def test_sums_are_those_of_the_reader_of_the_gguf_package(model: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(model)
    reader = oracle.GGUFReader(tmp_path / "m.gguf")
    header = gguf.read_header(model, "m.gguf", len(model))
    assert isinstance(header, gguf.Header)
    assert header.tensor_bytes == sum(int(tensor.n_bytes) for tensor in reader.tensors)
    assert header.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert header.header_bytes == reader.data_offset


def test_the_tables_are_those_of_the_gguf_package() -> None:
    for kind, (block, size) in oracle.GGML_QUANT_SIZES.items():
        assert gguf.TENSOR_TYPES[int(kind)] == (kind.name, block, size)
    names = {
        int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in oracle.LlamaFileType
    }
    assert {
        key: value for key, value in gguf._FILE_TYPES.items() if names[key].split("_MOE")[0] != value
    } == {}


def test_reading_what_is_asked_for_ends_at_the_header(model: bytes) -> None:
    wanted, rounds = 1, 0
    while True:
        found = gguf.read_header(model[:wanted], "m.gguf", len(model))
        if not isinstance(found, More):
            break
        assert wanted < found.wanted_bytes <= len(model)
        wanted, rounds = found.wanted_bytes, rounds + 1
    assert found == gguf.read_header(model, "m.gguf", len(model))
    assert rounds < 20


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_beginning_asks_for_more_and_never_lies(model: bytes, data: st.DataObject) -> None:
    whole = gguf.read_header(model, "m.gguf", len(model))
    assert isinstance(whole, gguf.Header)
    cut = data.draw(st.integers(0, len(model)))
    found = gguf.read_header(model[:cut], "m.gguf", len(model))
    assert found == whole or (isinstance(found, More) and found.wanted_bytes > cut)
    # A file that ends inside its header, or inside its tensors, is refused.
    if cut < len(model) - 32:
        assert isinstance(gguf.read_header(model[:cut], "m.gguf", cut), Reason)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_header_never_breaks_the_reader(model: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, 2000))
    damaged = bytearray(model)
    damaged[place : place + 8] = data.draw(st.binary(min_size=8, max_size=8))
    assert isinstance(gguf.read_header(bytes(damaged), "m.gguf", len(model)), gguf.Header | More | Reason)


@given(st.binary(max_size=400))
def test_chance_never_breaks_the_reader(noise: bytes) -> None:
    found = gguf.read_header(b"GGUF\x03\0\0\0" + noise, "m.gguf", 10**9)
    assert isinstance(found, gguf.Header | More | Reason)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        pytest.param(b"PK\x03\x04" + bytes(40), "needs the letters GGUF", id="another format"),
        pytest.param(head(version=1), "version 1", id="version 1"),
        pytest.param(b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version 50331648", id="big-endian"),
        pytest.param(head(tensors=2**60), "at most 65536 tensors", id="endless tensors"),
        pytest.param(head(keys=2**60), "at most 65536 metadata keys", id="endless keys"),
        pytest.param(head(keys=1) + struct.pack("<Q", 2**60), "bytes of a metadata key", id="endless key"),
        pytest.param(
            head(keys=1) + text(b"k") + struct.pack("<I", 13), "type from 0 to 12", id="unknown type"
        ),
        pytest.param(
            head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 0, 2**60),
            "elements in an array",
            id="endless array",
        ),
        pytest.param(
            head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 9, 1), "numbers or texts", id="array of arrays"
        ),
        pytest.param(
            head(keys=1) + text(b"k") + struct.pack("<IQ", 8, 2**60), "bytes of a text", id="endless text"
        ),
        pytest.param(head(keys=2) + 2 * (text(b"k") + struct.pack("<IB", 0, 1)), "key once", id="key twice"),
        pytest.param(head(tensors=1) + tensor(b"t", [1] * 5), "4 dimensions", id="five dimensions"),
        pytest.param(
            head(tensors=1) + tensor(b"t", [2**47, 2**20]), "2\\*\\*53 elements", id="endless tensor"
        ),
        pytest.param(head(tensors=1) + tensor(b"t", [31], 2), "blocks of 32", id="row that fills no block"),
        pytest.param(head(tensors=1) + tensor(b"t", [1], 0, 7), "multiples of 32", id="offset out of place"),
        pytest.param(
            head(tensors=2) + tensor(b"t", [1]) + tensor(b"t", [1], 0, 32),
            "tensor name once",
            id="tensor twice",
        ),
        pytest.param(
            head(tensors=1) + tensor(b"t", [10**6]), "bytes for header and tensors", id="truncated file"
        ),
    ],
)
def test_hostile_headers_are_refused_with_a_sentence(data: bytes, found: str) -> None:
    reason = gguf.read_header(data + bytes(64), "m.gguf", len(data) + 64)
    assert isinstance(reason, Reason)
    assert reason.code == "BadHeader"
    assert re.search(found, reason.message)
    assert reason.message.startswith("m.gguf: needs ")


def test_a_header_without_end_is_refused_before_it_is_read() -> None:
    data = head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 10, 2**24)
    reason = gguf.read_header(data, "m.gguf", 10**12)
    assert isinstance(reason, Reason)
    assert "67108864" in reason.message


def test_a_tensor_type_of_the_future_leaves_the_weights_unknown() -> None:
    data = head(tensors=1) + tensor(b"t", [64], 999)
    header = gguf.read_header(data + bytes(64), "m.gguf", 1000)
    assert isinstance(header, gguf.Header)
    assert (header.tensor_bytes, header.parameters) == (None, 64)


def test_a_projector_is_no_model() -> None:
    stream = io.BytesIO()
    stream.write(head(keys=1) + text(b"general.architecture") + struct.pack("<I", 8) + text(b"clip"))
    header = gguf.read_header(stream.getvalue(), "mmproj.gguf")
    assert isinstance(header, gguf.Header)
    assert not gguf.is_model(header)
