"""Image archives, read back by their specification."""

import hashlib
import json
import tarfile

import pytest

from e2e.cluster import oci


@pytest.fixture
def layers(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF and more")
    low = oci.layer({"/bin/low": program}, tmp_path / "low.tar")
    high = oci.layer({"/usr/local/bin/high": program}, tmp_path / "high.tar")
    return low, high


@pytest.fixture
def archive(layers, tmp_path):
    low, high = layers
    images = (
        oci.Image("localhost/low:1", (low,), ("/bin/low",), user="65532:65532"),
        oci.Image("localhost/both:2", (low, high), ("high",), ("run",), {"PATH": "/usr/local/bin"}),
    )
    return oci.write(images, tmp_path / "out.tar", architecture="amd64")


def _read(archive):
    with tarfile.open(archive) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}


def _images(files):
    """Return name, manifest and config of each image in an archive."""
    found = {}
    for entry in json.loads(files["index.json"])["manifests"]:
        manifest = json.loads(files["blobs/" + entry["digest"].replace(":", "/")])
        config = json.loads(files["blobs/" + manifest["config"]["digest"].replace(":", "/")])
        found[entry["annotations"]["io.containerd.image.name"]] = (manifest, config)
    return found


def test_every_blob_has_its_own_digest_as_name(archive):
    blobs = {name: data for name, data in _read(archive).items() if name.startswith("blobs/")}
    assert blobs
    for name, data in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def test_every_descriptor_names_a_blob_of_that_size(archive):
    files = _read(archive)
    index = json.loads(files["index.json"])["manifests"]
    described = list(index)
    for manifest, _ in _images(files).values():
        described += [manifest["config"], *manifest["layers"]]
    assert len(described) == 2 + 2 + 3
    for entry in described:
        assert len(files["blobs/" + entry["digest"].replace(":", "/")]) == entry["size"]


def test_a_shared_layer_is_in_the_archive_once(archive):
    images = _images(_read(archive))
    low, both = images["localhost/low:1"][0], images["localhost/both:2"][0]
    assert both["layers"][0] == low["layers"][0]
    assert len([name for name in _read(archive) if name.startswith("blobs/")]) == 2 + 2 + 2


def test_the_config_says_how_a_container_starts(archive):
    images = _images(_read(archive))
    assert images["localhost/both:2"][1]["config"] == {
        "Entrypoint": ["high"],
        "Cmd": ["run"],
        "Env": ["PATH=/usr/local/bin"],
    }
    assert images["localhost/low:1"][1]["config"] == {"Entrypoint": ["/bin/low"], "User": "65532:65532"}


def test_each_layer_has_a_history_entry(archive):
    for manifest, config in _images(_read(archive)).values():
        assert len(config["history"]) == len(manifest["layers"]) == len(config["rootfs"]["diff_ids"])


def test_layers_are_not_compressed_so_both_digests_are_the_same(archive):
    for manifest, config in _images(_read(archive)).values():
        assert [entry["digest"] for entry in manifest["layers"]] == config["rootfs"]["diff_ids"]


def test_the_same_content_gives_the_same_bytes(layers, archive, tmp_path):
    low, high = layers
    again = oci.layer({"/bin/low": tmp_path / "program"}, tmp_path / "low-again.tar")
    assert again.read_bytes() == low.read_bytes()
    images = (
        oci.Image("localhost/low:1", (again,), ("/bin/low",), user="65532:65532"),
        oci.Image("localhost/both:2", (again, high), ("high",), ("run",), {"PATH": "/usr/local/bin"}),
    )
    out = oci.write(images, tmp_path / "again.tar", architecture="amd64")
    assert out.read_bytes() == archive.read_bytes()


def test_a_layer_holds_its_folders_and_programs_anybody_may_run(layers):
    with tarfile.open(layers[1]) as tar:
        entries = [(entry.name, entry.isdir(), entry.mode, entry.uid, entry.mtime) for entry in tar]
    assert entries == [
        ("usr", True, 0o755, 0, 0),
        ("usr/local", True, 0o755, 0, 0),
        ("usr/local/bin", True, 0o755, 0, 0),
        ("usr/local/bin/high", False, 0o755, 0, 0),
    ]
