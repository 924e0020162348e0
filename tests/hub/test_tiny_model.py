"""The tiny chat model of the tests: the same bytes everywhere, and it never ends an answer."""

import hashlib
from pathlib import Path

import gguf
import numpy as np
import pytest

from e2e.models.tiny import GEOMETRY, SPACE, WORDS, seed_of, vocabulary, write_model, write_repository

GOLDEN = {"v1": "b1f882af"}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> gguf.GGUFReader:
    path = tmp_path_factory.mktemp("tiny") / "m.gguf"
    write_model(path, seed=seed_of("v1"), geometry=GEOMETRY)
    return gguf.GGUFReader(path)


def matrix(reader: gguf.GGUFReader, name: str) -> np.ndarray:
    (tensor,) = [tensor for tensor in reader.tensors if tensor.name == name]
    return np.asarray(tensor.data, dtype=np.float32).reshape(tuple(reversed(tensor.shape.tolist())))


def test_a_revision_has_the_same_bytes_wherever_it_is_made(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "acme/tiny-chat", list(GOLDEN), GEOMETRY)
    (model,) = [file for file in files if file.suffix == ".gguf"]
    assert hashlib.sha256(model.read_bytes()).hexdigest()[:8] == GOLDEN["v1"]


def test_revisions_differ_in_their_weights_only(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "acme/tiny-chat", ["v1", "v2"], GEOMETRY)
    one, two = (file.read_bytes() for file in files if file.suffix == ".gguf")
    assert len(one) == len(two)
    assert one != two


def test_component_0_of_the_hidden_state_is_never_changed(reader: gguf.GGUFReader) -> None:
    assert np.all(matrix(reader, "token_embd.weight")[:, 0] == 1)
    for layer in range(GEOMETRY.layers):
        assert np.all(matrix(reader, f"blk.{layer}.attn_output.weight")[0] == 0)
        assert np.all(matrix(reader, f"blk.{layer}.ffn_down.weight")[0] == 0)


def test_only_words_can_be_written_so_no_answer_ends_by_itself(reader: gguf.GGUFReader) -> None:
    output = matrix(reader, "output.weight")
    tokens, _, _ = vocabulary()
    spoken = np.array([token in {SPACE + word for word in WORDS} for token in tokens])
    assert np.all(output[spoken, 0] == 0)
    assert np.all(output[~spoken, 0] == -10)
    assert np.all(output[~spoken, 1:] == 0)
    assert tokens.index("</s>") in np.flatnonzero(~spoken)
