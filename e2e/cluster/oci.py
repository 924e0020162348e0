"""Write container images as one OCI archive, the same bytes for the same content."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.cluster.cache import sha256_of

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"  # not compressed: nothing here travels far
CREATED = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Image:
    """A name with tag, layers (tar files, lowest first) and how a container of it starts."""

    name: str
    layers: tuple[Path, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


def layer(files: Mapping[str, Path], out: Path) -> Path:
    """Write a layer with *files* (absolute path in the image, file here), all executable, owned by root."""
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as tar:
        for folder in sorted({str(above) for name in files for above in Path(name).parents}):
            if folder != "/":
                entry = _entry(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
        for name, source in sorted(files.items()):
            entry = _entry(name)
            entry.mode, entry.size = 0o755, source.stat().st_size
            with source.open("rb") as content:
                tar.addfile(entry, content)
    return out


def _entry(name: str) -> tarfile.TarInfo:
    """Return an entry without date or owner, which would differ from machine to machine."""
    return tarfile.TarInfo(name.lstrip("/"))


def write(images: Iterable[Image], out: Path, *, architecture: str) -> Path:
    """Write an archive of *images* to *out*; a layer that several share is in it once.

    *architecture* is Go's name, such as ``amd64``.  The names are in both annotations that tools
    look at: containerd's and the one of the OCI layout.
    """
    digests: dict[Path, str] = {}
    blobs: dict[str, Path | bytes] = {}
    manifests = []
    for image in images:
        for path in image.layers:
            if path not in digests:
                digests[path] = sha256_of(path)
                blobs[digests[path]] = path
        layers = [(digests[path], path.stat().st_size) for path in image.layers]
        config = _add(blobs, _config(image, [digest for digest, _ in layers], architecture))
        manifest = _add(blobs, _manifest(config, layers))
        manifests.append(_descriptor(MANIFEST, *manifest) | _named(image, architecture))
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as tar:
        _put(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _put(tar, "index.json", _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}))
        for digest in sorted(blobs):
            _put(tar, f"blobs/sha256/{digest}", blobs[digest])
    return out


def _config(image: Image, layers: list[str], architecture: str) -> bytes:
    runtime: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in image.env.items()],
        "Entrypoint": list(image.entrypoint),
        "Cmd": list(image.command),
        "User": image.user,
    }
    return _json(
        {
            "created": CREATED,
            "architecture": architecture,
            "os": "linux",
            "config": {name: value for name, value in runtime.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layers]},
            # buildah refuses an image with more layers than entries here.
            "history": [{"created": CREATED, "created_by": "e2e/cluster"} for _ in layers],
        }
    )


def _manifest(config: tuple[str, int], layers: list[tuple[str, int]]) -> bytes:
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, *config),
            "layers": [_descriptor(LAYER, digest, size) for digest, size in layers],
        }
    )


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def _named(image: Image, architecture: str) -> dict[str, Any]:
    return {
        "platform": {"architecture": architecture, "os": "linux"},
        "annotations": {
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name,
        },
    }


def _add(blobs: dict[str, Path | bytes], content: bytes) -> tuple[str, int]:
    digest = hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return digest, len(content)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _put(tar: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    entry = _entry(name)
    entry.mode = 0o644
    if isinstance(content, bytes):
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
        return
    entry.size = content.stat().st_size
    with content.open("rb") as file:
        tar.addfile(entry, file)
