"""What the hub holds: repositories as folders, one folder per revision, read once."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

LFS_SUFFIXES = (".gguf", ".safetensors", ".bin", ".onnx", ".pt", ".joblib", ".pkl", ".h5", ".msgpack")
LFS_BYTES = 10 * 2**20


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a commit."""

    path: str
    file: Path
    size: int
    blob: str
    """Git's id of the content, or of the pointer for LFS."""
    lfs: str | None
    """The sha256 of the content where the file is kept by LFS."""

    @property
    def etag(self) -> str:
        """Return what names the content: sha256 for LFS, git's id otherwise."""
        return self.lfs or self.blob


@dataclass(slots=True)
class Repository:
    """All commits of one repository, and the names that point at them."""

    name: str
    commits: dict[str, dict[str, Entry]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit_of(self, revision: str) -> str | None:
        """Return the commit that a branch, a tag or a commit names."""
        return revision if revision in self.commits else self.refs.get(revision)


def load(data: Path) -> dict[str, Repository]:
    """Read ``<organisation>/<name>/<revision>/...``; the folder's name is the ref of its commit.

    ``main`` is the folder of that name, or else the first one.  A commit's id follows from its files,
    so the same files have the same commit wherever the hub runs.
    """
    repositories = {}
    for folder in sorted(path for path in data.glob("*/*") if path.is_dir()):
        repository = Repository(folder.relative_to(data).as_posix())
        for revision in sorted(path for path in folder.iterdir() if path.is_dir()):
            entries = _entries(revision)
            lines = "".join(f"{entry.etag} {entry.path}\n" for entry in entries.values())
            commit = hashlib.sha1(f"{repository.name}\n{lines}".encode(), usedforsecurity=False).hexdigest()
            repository.commits[commit] = entries
            repository.refs[revision.name] = commit
        if repository.refs:
            repository.refs.setdefault("main", repository.refs[min(repository.refs)])
        repositories[repository.name] = repository
    return repositories


def card(entries: dict[str, Entry]) -> dict[str, Any]:
    """Return the front matter of README.md, {} without one."""
    readme = entries.get("README.md")
    parts = readme.file.read_text().split("---\n") if readme else []
    found = yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0] else None
    return found if isinstance(found, dict) else {}


def _entries(revision: Path) -> dict[str, Entry]:
    files = sorted(path for path in revision.rglob("*") if path.is_file())
    return {entry.path: entry for entry in (_entry(revision, file) for file in files)}


def _entry(revision: Path, file: Path) -> Entry:
    size = file.stat().st_size
    path = file.relative_to(revision).as_posix()
    if size < LFS_BYTES and not path.endswith(LFS_SUFFIXES):
        return Entry(path, file, size, _git_id(file.read_bytes()), None)
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return Entry(path, file, size, _git_id(pointer.encode()), sha256)


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
