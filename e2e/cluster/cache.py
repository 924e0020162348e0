"""Keep what is expensive to make under one folder, each thing under the hash of what made it."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from e2e.cluster.progress import CACHED, Stage, say, stage

KEEP = 2  # folders of one kind that always stay: the present one and the one before
UNUSED = timedelta(days=7)  # the others go when nobody asked for them for this long
RECIPE = ".made-of.json"


def root() -> Path:
    """Return the folder of everything that may be made again: ``$XDG_CACHE_HOME/modelops``."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "modelops"


def key_of(material: Mapping[str, str]) -> str:
    """Return the key of what was made of *material*: 16 hexadecimal digits.

    The order of the entries does not matter; every byte of names and values does.
    """
    text = json.dumps(material, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def keyed(kind: str, material: Mapping[str, str], build: Callable[[Path, Stage], None]) -> Path:
    """Return the folder that *material* describes; if there is none, have *build* fill it first.

    *kind* is a relative path such as ``binaries/etcd``.  *build* writes into an empty folder that
    gets its final name only when complete, so a run that was killed leaves nothing half made.
    Two runs that want the same folder build it once; the second waits.
    """
    folder = root() / kind / key_of(material)
    with stage(kind.replace("/", " ")) as step:
        step.outcome = CACHED
        if not folder.is_dir():
            with lock(f"{kind}/{folder.name}"):
                if not folder.is_dir():  # else another run made it while this one waited
                    step.outcome = "built"
                    _build(folder, material, build, step)
        os.utime(folder)
    if step.outcome == "built":
        _remove_unused(folder.parent, time.time())
    return folder


def _build(
    folder: Path, material: Mapping[str, str], build: Callable[[Path, Stage], None], step: Stage
) -> None:
    with staging(folder.parent) as work:
        build(work, step)
        (work / RECIPE).write_text(json.dumps(material, indent=1, sort_keys=True) + "\n")
        work.chmod(0o755)
        work.rename(folder)


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """Give an empty folder in *parent*, on its file system; it is gone afterwards unless renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".staging-", dir=parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock *name* among all runs and threads of this user, waiting for it."""
    path = root() / "locks" / name.replace("/", "-")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name} ... another run makes it, waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_unused(parent: Path, now: float) -> None:
    """Remove what was not asked for lately, and what killed runs left behind a day ago or more."""
    folders = sorted((path for path in parent.iterdir() if path.is_dir()), key=_last_used, reverse=True)
    made = [path for path in folders if not path.name.startswith(".")]
    old = [path for path in made[KEEP:] if now - _last_used(path) > UNUSED.total_seconds()]
    dead = [path for path in folders if path.name.startswith(".") and now - _last_used(path) > 86_400]
    for path in old + dead:
        say(f"{path.relative_to(root())} ... removed, unused")
        shutil.rmtree(path, ignore_errors=True)


def _last_used(path: Path) -> float:
    return path.stat().st_mtime


def log_of(name: str) -> Path:
    """Return the file that gets the output of the long programs of *name*."""
    return root() / "logs" / f"{name.replace('/', '-')}.log"


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
