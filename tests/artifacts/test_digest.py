"""The digest of a version, against coreutils."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.artifacts.digest import MAX_FILES, artifact_digest, is_digest, refuses

NAMES = ["a", "b.gguf", "Z", "é", "10", "9", "a b", "dir", "-x", "~", "#"]


def hashed(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def test_the_golden_of_the_design_is_met() -> None:
    files = {"config.json": b"{}\n", "onnx/model.onnx": b"abc", "empty.txt": b""}
    assert (
        artifact_digest(hashed(files))
        == "sha256:f0cd96f5114a56ddaefe0ad975cf3ff76d395a7e1b998fb93fd17de65b8e03c7"
    )


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"one.bin": b"1"}, id="one file"),
        pytest.param({name: name.encode() for name in NAMES if name != "dir"}, id="names of all sorts"),
        pytest.param({f"{a}/{b}": b"same" for a in ("x", "x-y", "x.y") for b in NAMES}, id="equal contents"),
        pytest.param({"ü/ß.json": b"u", "日本/語": b"", " lead": b"\0"}, id="outside ASCII"),
    ],
)
def test_coreutils_give_the_same_digest(tmp_path: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    command = "find . -type f -printf '%P\\0' | xargs -0 sha256sum -- | LC_ALL=C sort | sha256sum"
    printed = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert artifact_digest(hashed(files)) == f"sha256:{printed.split()[0]}"


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d/e", "d/f"]), st.binary(max_size=4), min_size=1))
def test_the_order_of_the_files_does_not_matter(files: dict[str, bytes]) -> None:
    pairs = hashed(files)
    assert artifact_digest(dict(reversed(pairs.items()))) == artifact_digest(pairs)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.binary(max_size=2), min_size=1),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.binary(max_size=2), min_size=1),
)
def test_different_files_never_share_a_digest(one: dict[str, bytes], two: dict[str, bytes]) -> None:
    assert (artifact_digest(hashed(one)) == artifact_digest(hashed(two))) == (one == two)


@pytest.mark.parametrize(
    ("paths", "code"),
    [
        pytest.param(["a", "b/c", "b/d.json"], None, id="plain paths"),
        pytest.param(["..."], None, id="three dots are a name"),
        pytest.param(["x" * 255], None, id="longest name"),
        pytest.param([], "NoFiles", id="no file"),
        pytest.param(
            [str(number) for number in range(MAX_FILES + 1)], "TooManyFiles", id="one file too many"
        ),
        pytest.param(["/etc/passwd"], "BadPath", id="absolute"),
        pytest.param(["a/../b"], "BadPath", id="dot dot"),
        pytest.param(["./a"], "BadPath", id="dot"),
        pytest.param(["a//b"], "BadPath", id="empty part"),
        pytest.param(["a/"], "BadPath", id="folder"),
        pytest.param([""], "BadPath", id="empty"),
        pytest.param(["a\\b"], "BadPath", id="backslash"),
        pytest.param(["a\nb"], "BadPath", id="newline"),
        pytest.param(["a\rb"], "BadPath", id="carriage return"),
        pytest.param(["a\0b"], "BadPath", id="null byte"),
        pytest.param(["\udc80"], "BadPath", id="lone surrogate"),
        pytest.param(["x" * 256], "BadPath", id="name too long"),
        pytest.param(["é" * 128], "BadPath", id="name too long in bytes"),
        pytest.param(["/".join(["x" * 200] * 21)], "BadPath", id="path too long"),
        pytest.param(["\u00e9", "e\u0301"], "BadPath", id="equal after normalisation"),
        pytest.param(["a", "a/b"], "BadPath", id="file that is a folder too"),
    ],
)
def test_which_paths_are_refused(paths: list[str], code: str | None) -> None:
    reason = refuses(paths)
    assert (reason and reason.code) == code
    assert reason is None or "\n" not in reason.message


def test_a_hash_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="64 lower-case hex"):
        artifact_digest({"a": "AB" * 32})


def test_what_counts_as_a_digest() -> None:
    assert is_digest("sha256:" + "0" * 64)
    assert not any(is_digest(text) for text in ("0" * 64, "sha256:" + "0" * 63, "sha256:" + "G" * 64, None))
