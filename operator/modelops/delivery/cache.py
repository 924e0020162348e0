"""The store on a node: one folder per digest, which holds all of its files or none.

::

    <store>/sha256-<hex>/files/...     what pods mount, complete from the moment it is there
    <store>/.staging/sha256-<hex>/     on its way: files/, etags/
    <store>/.staging/trash-<hex>       on its way out
    <store>/.records/sha256-<hex>      when it was verified, and what a quick look must find
"""

import json
import os
import shutil
import stat
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from modelops.api import names
from modelops.artifacts.digest import artifact_digest, is_digest
from modelops.delivery import verify
from modelops.plan import Reason


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a complete artifact."""

    digest: str
    namespace: str
    version: str
    bytes: int
    files: int
    verified_at: str
    """When every byte was hashed last: an instant in ISO 8601."""
    seen: str
    """Digest over names, sizes and times of change of the files."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk below the store."""

    total_bytes: int
    free_bytes: int


class Store:
    """All artifacts of one node.  Every method blocks: call it from a thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._staging = root / ".staging"
        self._records = root / ".records"

    def prepare(self) -> None:
        """Make the folders and remove what was on its way out."""
        for folder in (self.root, self._staging, self._records):
            folder.mkdir(parents=True, exist_ok=True)
        for trash in self._staging.glob("trash-*"):
            _remove(trash)

    def records(self) -> list[Record]:
        """Return all artifacts that are complete and look as they did when they were verified.

        One that looks otherwise has no record any more: `adopt` hashes it again.
        """
        found = []
        for file in sorted(self._records.glob("sha256-*")):
            record = self._record(file)
            if record is not None and self._seen(record.digest) == record.seen:
                found.append(record)
            else:
                file.unlink(missing_ok=True)
        return found

    def record(self, digest: str) -> Record | None:
        """Return what is known of *digest* if it is complete and looks as it did."""
        file = self._records / names.store_folder(digest)
        record = self._record(file) if file.exists() else None
        return record if record is not None and self._seen(digest) == record.seen else None

    def unknown(self) -> list[str]:
        """Return the digests whose folder holds files without a record."""
        known = {record.digest for record in self.records()}
        digests = [folder.name.replace("sha256-", "sha256:", 1) for folder in self.root.glob("sha256-*")]
        return [
            digest
            for digest in sorted(digests)
            if is_digest(digest) and digest not in known and self.files(digest).is_dir()
        ]

    def adopt(self, digest: str, namespace: str, version: str, now: str) -> Record | Reason:
        """Hash files that lie there without a record: keep them if they are *digest*, else remove them."""
        found = verify.digest(self.files(digest))
        if found != digest:
            self.evict(digest)
            return (
                found
                if isinstance(found, Reason)
                else verify.mismatch(f"{namespace}/{version}", digest, found)
            )
        return self._remember(digest, namespace, version, now)

    def files(self, digest: str) -> Path:
        """Return where the files of *digest* are, once they are complete."""
        return self.root / names.store_folder(digest) / "files"

    def staging(self, digest: str) -> Path:
        """Return the folder in which *digest* is put together."""
        folder = self._staging / names.store_folder(digest)
        folder.mkdir(parents=True, exist_ok=True)
        _unseal(folder)  # an earlier run may have ended between sealing and renaming
        return folder

    def staged_bytes(self, digest: str) -> int:
        """Return what is there already of *digest*."""
        files = self._staging / names.store_folder(digest) / "files"
        if not files.is_dir():
            return 0
        found = verify.sizes(files)
        return 0 if isinstance(found, Reason) else sum(found.values())

    def publish(
        self, digest: str, hashes: dict[str, str], namespace: str, version: str, now: str
    ) -> Record | Reason:
        """Move complete files to their place by one rename, or remove them if they are not *digest*.

        *hashes* were taken while the bytes were written; the tree must hold these files and no other.
        """
        name = f"{namespace}/{version}"
        staged = self.staging(digest) / "files"
        listed = verify.sizes(staged)
        if isinstance(listed, Reason):
            self.discard(digest)
            return listed
        found = artifact_digest(hashes)
        if found != digest or set(listed) != set(hashes):
            self.discard(digest)
            return verify.mismatch(name, digest, found if found != digest else "other files beside them")
        _seal(staged)
        target = self.files(digest)
        target.parent.mkdir(mode=0o755, exist_ok=True)
        if not target.exists():
            # A folder that changes its parent must itself be writable, since root has no capabilities here.
            staged.chmod(0o755)
            staged.rename(target)
            target.chmod(0o555)
            _sync(target.parent)
        self.discard(digest)
        return self._remember(digest, namespace, version, now)

    def discard(self, digest: str) -> None:
        """Remove what was put together so far."""
        self._trash(self._staging / names.store_folder(digest))

    def discard_others(self, wanted: Collection[str]) -> list[str]:
        """Remove what was begun for digests that nobody wants any more; return them."""
        folders = {names.store_folder(digest) for digest in wanted}
        gone = [folder for folder in self._staging.glob("sha256-*") if folder.name not in folders]
        for folder in gone:
            self._trash(folder)
        return [folder.name.replace("sha256-", "sha256:", 1) for folder in gone]

    def evict(self, digest: str) -> None:
        """Remove an artifact; its empty folder goes too, unless a pod holds it."""
        (self._records / names.store_folder(digest)).unlink(missing_ok=True)
        self._trash(self.files(digest))
        folder = self.root / names.store_folder(digest)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def make_room(self, wanted: Collection[str], missing_bytes: Callable[[], int]) -> list[str]:
        """Evict artifacts that nobody wants, the longest verified first, while bytes are missing."""
        evicted = []
        unwanted = [record for record in self.records() if record.digest not in wanted]
        for record in sorted(unwanted, key=lambda record: record.verified_at):
            if missing_bytes() <= 0:
                break
            self.evict(record.digest)
            evicted.append(record.digest)
        return evicted

    def disk(self) -> Disk:
        """Return the size of the disk and what is free for us."""
        found = os.statvfs(self.root)
        return Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def _remember(self, digest: str, namespace: str, version: str, now: str) -> Record:
        listed = verify.sizes(self.files(digest))
        counts = {} if isinstance(listed, Reason) else listed
        record = Record(
            digest, namespace, version, sum(counts.values()), len(counts), now, self._seen(digest) or ""
        )
        file = self._records / names.store_folder(digest)
        new = file.with_name(f".{file.name}")
        new.write_text(json.dumps(asdict(record)))
        new.rename(file)
        return record

    def _record(self, file: Path) -> Record | None:
        try:
            return Record(**json.loads(file.read_text()))
        except (ValueError, TypeError):
            return None

    def _seen(self, digest: str) -> str | None:
        """Return a digest over what a quick look shows; None when the files are not there."""
        root = self.files(digest)
        if not root.is_dir():
            return None
        listed = verify.sizes(root)
        if isinstance(listed, Reason):
            return None
        rows = [(path, size, (root / path).stat().st_mtime_ns) for path, size in sorted(listed.items())]
        return verify.text_hash(json.dumps(rows))

    def _trash(self, folder: Path) -> None:
        """Take *folder* out of sight by one rename, then remove it."""
        if not folder.is_dir():
            return
        folder.chmod(0o755)
        trash = self._staging / f"trash-{os.urandom(8).hex()}"
        folder.rename(trash)
        _remove(trash)


def _seal(root: Path) -> None:
    """Make everything below *root* readable for all and writable for none, on the disk."""
    for folder, _, files in os.walk(root, topdown=False):
        for file in files:
            os.chmod(os.path.join(folder, file), 0o444)
        _sync(Path(folder))
        os.chmod(folder, 0o555)


def _remove(folder: Path) -> None:
    """Remove a sealed tree: folders must be writable first, since root has no capabilities here."""
    _unseal(folder)
    shutil.rmtree(folder)


def _unseal(folder: Path) -> None:
    os.chmod(folder, stat.S_IRWXU)
    for path, folders, _ in os.walk(folder):
        for name in folders:
            os.chmod(os.path.join(path, name), stat.S_IRWXU)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
