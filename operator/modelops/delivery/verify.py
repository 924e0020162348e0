"""Compare a folder with a digest: every name, every byte, nothing more."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modelops.artifacts.digest import artifact_digest, refuses, shown
from modelops.delivery.sources.base import CHUNK_BYTES
from modelops.plan import Reason


def sizes(root: Path) -> dict[str, int] | Reason:
    """Return the size of each file below *root* by its relative path, or why the tree is none of ours.

    Only folders and regular files may be there: a link could lead out of the store.
    """
    found: dict[str, int] = {}
    for path, entry in _walk(root, ""):
        mode = entry.stat(follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            return Reason(
                "NotAFile",
                f"{shown(path)}: needs a regular file, found a link or a device; remove it from the store",
            )
        found[path] = entry.stat(follow_symlinks=False).st_size
    return found


def hashes(root: Path) -> dict[str, str] | Reason:
    """Return the sha256 of each file below *root*, read from the disk."""
    listed = sizes(root)
    if isinstance(listed, Reason):
        return listed
    return {path: _hash(root / path) for path in listed}


def digest(root: Path) -> str | Reason:
    """Return the artifact digest of everything below *root*."""
    found = hashes(root)
    if isinstance(found, Reason):
        return found
    return refuses(found) or artifact_digest(found)


def mismatch(name: str, wanted: str, found: str) -> Reason:
    """Return the reason when the bytes are not those of the version."""
    return Reason(
        "DigestMismatch",
        f"{name}: needs the bytes of {wanted} (status.artifactDigest), found {found}; "
        "nothing of it was kept, find out who changed the repository and create a new ModelVersion",
    )


def _hash(file: Path) -> str:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        sha256 = hashlib.sha256()
        while chunk := stream.read(CHUNK_BYTES):
            sha256.update(chunk)
    return sha256.hexdigest()


def _walk(root: Path, below: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(root / below) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, path)
            else:
                yield path, entry


def text_hash(text: str) -> str:
    """Return the sha256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
