"""``kubectl modelops digest`` equals coreutils and refuses what they would pass over."""

import os
import subprocess

import pytest

from modelops.cli.main import main

COREUTILS = "find . -type f -printf '%P\\0' | xargs -0 sha256sum | LC_ALL=C sort | sha256sum"
GOLDEN = "sha256:f0cd96f5114a56ddaefe0ad975cf3ff76d395a7e1b998fb93fd17de65b8e03c7"


@pytest.fixture
def folder(tmp_path):
    """The golden of research/governance.md 3.1."""
    (tmp_path / "onnx").mkdir()
    (tmp_path / "config.json").write_text("{}\n")
    (tmp_path / "onnx" / "model.onnx").write_text("abc")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "an empty folder").mkdir()
    return tmp_path


def test_it_is_the_published_digest(folder, capsys):
    assert main(["digest", str(folder)]) == 0
    assert capsys.readouterr().out == f"{GOLDEN}\n"


def test_it_is_what_coreutils_print(folder, capsys):
    (folder / "Ümläut and space").write_bytes(b"\xff" * 3_000_000)
    (folder / "onnx.json").write_text("sorts between onnx and onnx/model.onnx")
    assert main(["digest", str(folder), "--files"]) == 0
    *files, digest = capsys.readouterr().out.splitlines()
    done = subprocess.run(COREUTILS, shell=True, cwd=folder, capture_output=True, text=True, check=True)
    assert digest == f"sha256:{done.stdout.split()[0]}"
    assert len(files) == 5


def _link(folder):
    (folder / "weights").symlink_to(folder / "config.json")


def _pipe(folder):
    os.mkfifo(folder / "weights")


def _empty(folder):
    for path in ("config.json", "onnx/model.onnx", "empty.txt"):
        (folder / path).unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(_link, "file 'weights': needs to be a regular file, found a symbolic link; ", id="link"),
        pytest.param(_pipe, "file 'weights': needs to be a regular file, found a special file; ", id="pipe"),
        pytest.param(_empty, "{folder}: artifact: needs at least one file, found none; ", id="nothing"),
        pytest.param(
            lambda folder: (folder / "a\nb").touch(),
            "{folder}: file 'a\\nb': needs a path without backslashes and control characters",
            id="a name that coreutils escape",
        ),
    ],
)
def test_what_has_no_digest_is_refused(folder, capsys, spoil, sentence):
    spoil(folder)
    assert main(["digest", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence.format(folder=folder))
