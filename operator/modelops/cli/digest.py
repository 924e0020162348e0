"""``kubectl modelops digest``: the artifact digest of a folder, as coreutils give it.  Needs no cluster."""

import argparse
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modelops.artifacts.digest import artifact_digest, refuses, shown
from modelops.cli import flags
from modelops.cli.refusal import Refused

CHUNK_BYTES = 2**20


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of ``kubectl modelops``."""
    parser = flags.command(
        subparsers,
        "digest",
        help_="print the artifact digest of a folder; needs no cluster",
        description="Print the digest that a ModelVersion of these files has in status.artifactDigest.  It "
        "equals what coreutils print:\n"
        "  find . -type f -printf '%P\\0' | xargs -0 sha256sum | LC_ALL=C sort | sha256sum",
        example="  kubectl modelops digest ./chat-model",
    )
    parser.add_argument(
        "path", metavar="PATH", type=Path, help="folder with the files of one model, and no others"
    )
    parser.add_argument("--files", action="store_true", help="print the digest of every file first")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the digest on the last line."""
    root: Path = args.path
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise Refused(f"{root}: needs a folder, found {found}; name the folder that holds the files")
    try:
        paths = sorted(_walk(root, ""))
        reason = refuses(paths)
        if reason is not None:
            raise Refused(f"{root}: {reason.message}")
        hashed = {path: _sha256(root / path) for path in paths}
    except OSError as error:
        raise Refused(
            f"{error.filename or root}: needs to be readable, found {error.strerror}; correct its permissions"
        ) from error
    if args.files:
        print("\n".join(sorted(f"{sha256}  {path}" for path, sha256 in hashed.items())))
    print(artifact_digest(hashed))
    return 0


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    """Yield the relative paths of all regular files.

    A link or a special file is refused: coreutils would pass over it, and the digest would say less than
    the folder seems to hold.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{path}/")
            elif stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                yield path
            else:
                kind = "a symbolic link" if entry.is_symlink() else "a special file"
                raise Refused(
                    f"file {shown(path)}: needs to be a regular file, found {kind}; "
                    "copy the folder with cp -rL and take the copy"
                )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
