"""The store: all of an artifact or none of it."""

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modelops.api import names
from modelops.artifacts.digest import artifact_digest
from modelops.delivery import verify
from modelops.delivery.cache import Record, Store
from modelops.plan import Reason

NOW = "2026-01-01T00:00:00Z"
FILES = {"config.json": b"{}\n", "onnx/model.onnx": b"abc", "empty.txt": b""}
HASHES = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
DIGEST = artifact_digest(HASHES)


def write(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.prepare()
    return store


def publish(store: Store, digest: str = DIGEST, hashes: dict[str, str] | None = None) -> Record | Reason:
    write(store.staging(digest) / "files", FILES)
    return store.publish(digest, hashes or HASHES, "team", "chat-1", NOW)


def test_complete_files_appear_readable_for_all_and_writable_for_none(store: Store) -> None:
    record = publish(store)
    assert isinstance(record, Record)
    assert (record.files, record.bytes, record.verified_at) == (3, 6, NOW)
    root = store.root / names.store_folder(DIGEST) / "files"
    assert verify.digest(root) == DIGEST
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert modes == {
        "files": 0o555,
        "onnx": 0o555,
        "config.json": 0o444,
        "model.onnx": 0o444,
        "empty.txt": 0o444,
    }
    assert list((store.root / ".staging").iterdir()) == []


def test_files_appear_in_a_folder_that_a_pod_has_mounted_already(store: Store) -> None:
    mounted = store.root / names.store_folder(DIGEST)
    mounted.mkdir()
    inode = mounted.stat().st_ino
    publish(store)
    assert mounted.stat().st_ino == inode
    assert (mounted / "files/config.json").read_bytes() == b"{}\n"


@pytest.mark.parametrize(
    ("hashes", "extra"),
    [
        pytest.param({**HASHES, "config.json": "0" * 64}, {}, id="a file with other bytes"),
        pytest.param(HASHES, {"more.txt": b""}, id="a file too many"),
        pytest.param({**HASHES, "gone.txt": "0" * 64}, {}, id="a file too few"),
    ],
)
def test_what_is_not_the_version_is_removed_with_a_sentence(
    store: Store, hashes: dict[str, str], extra: dict[str, bytes]
) -> None:
    write(store.staging(DIGEST) / "files", extra)
    reason = publish(store, hashes=hashes)
    assert isinstance(reason, Reason)
    assert reason.code == "DigestMismatch"
    assert DIGEST in reason.message
    assert not store.files(DIGEST).exists()
    assert list((store.root / ".staging").iterdir()) == []


def test_a_link_among_the_files_is_refused(store: Store) -> None:
    files = store.staging(DIGEST) / "files"
    write(files, FILES)
    (files / "link").symlink_to("/etc/passwd")
    reason = store.publish(DIGEST, {**HASHES, "link": "0" * 64}, "team", "chat-1", NOW)
    assert isinstance(reason, Reason)
    assert reason.code == "NotAFile"


def test_an_artifact_survives_a_restart_and_a_changed_one_does_not(store: Store) -> None:
    publish(store)
    again = Store(store.root)
    again.prepare()
    assert [record.digest for record in again.records()] == [DIGEST]
    file = store.files(DIGEST) / "config.json"
    os.chmod(file, 0o644)
    file.write_bytes(b"[]\n")
    assert again.records() == []
    assert again.unknown() == [DIGEST]
    reason = again.adopt(DIGEST, "team", "chat-1", NOW)
    assert isinstance(reason, Reason)
    assert reason.code == "DigestMismatch"
    assert not store.files(DIGEST).exists()


def test_files_without_a_record_are_hashed_again_and_kept(store: Store) -> None:
    publish(store)
    (store.root / ".records" / names.store_folder(DIGEST)).unlink()
    assert isinstance(store.adopt(DIGEST, "team", "chat-1", "2026-02-01T00:00:00Z"), Record)
    assert [record.verified_at for record in store.records()] == ["2026-02-01T00:00:00Z"]


def test_only_what_nobody_wants_makes_room_and_only_while_it_is_missing(store: Store) -> None:
    digests = []
    for number in range(4):
        files = {"a": str(number).encode()}
        hashes = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
        digest = artifact_digest(hashes)
        write(store.staging(digest) / "files", files)
        store.publish(digest, hashes, "team", f"v{number}", f"2026-01-0{number + 1}T00:00:00Z")
        digests.append(digest)
    wanted = {digests[0]}
    missing = iter([1, 1, 0])
    assert store.make_room(wanted, lambda: next(missing)) == digests[1:3]
    assert sorted(record.digest for record in store.records()) == sorted([digests[0], digests[3]])
    assert not (store.root / names.store_folder(digests[1])).exists()


def test_what_was_begun_for_nobody_is_removed(store: Store) -> None:
    other = "sha256:" + "0" * 64
    write(store.staging(DIGEST) / "files", FILES)
    write(store.staging(other) / "files", FILES)
    assert store.discard_others([DIGEST]) == [other]
    assert store.staged_bytes(DIGEST) == 6
    assert store.staged_bytes(other) == 0


def test_root_without_capabilities_can_publish_and_evict(tmp_path: Path) -> None:
    code = """
import hashlib, sys
from pathlib import Path
from modelops.delivery.cache import Record, Store
from modelops.artifacts.digest import artifact_digest
store = Store(Path(sys.argv[1])); store.prepare()
hashes = {p: hashlib.sha256(p.encode()).hexdigest() for p in ("a", "d/b")}
digest = artifact_digest(hashes)
for round in range(2):
    files = store.staging(digest) / "files"
    (files / "d").mkdir(parents=True)
    for p in hashes: (files / p).write_text(p)
    assert isinstance(store.publish(digest, hashes, "t", "v", "2026-01-01T00:00:00Z"), Record)
    assert store.record(digest) is not None
    store.evict(digest)
    assert not (store.root / digest.replace(":", "-")).exists()
print("done", open("/proc/self/status").read().split("CapEff:")[1].split()[0])
"""
    # Any other user has no capabilities to begin with.
    drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-c", code, str(tmp_path / "store")]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert printed.stdout.split() == ["done", "0" * 16], printed.stderr
