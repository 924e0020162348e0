"""Make and remove a node's subtree in every cgroup hierarchy.

Version 1 (one hierarchy per controller) was run.  Version 2 (one for all) is written and was not.
"""

import errno
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")

_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
_LEAVE_S = 20


def make(cgroup: str) -> None:
    """Make the subtree *cgroup* (with a leading slash) wherever kubelet will look for it."""
    for hierarchy in _hierarchies():
        folder = hierarchy / cgroup.lstrip("/")
        folder.mkdir(exist_ok=True)
        if is_v2():
            _delegate(hierarchy)
            _delegate(folder)
        for name in ("cpuset.cpus", "cpuset.mems"):  # version 1 starts them empty: nothing could run
            own = folder / name
            if not is_v2() and own.exists() and not own.read_text().strip():
                own.write_text((hierarchy / name).read_text())


def prune(cgroup: str) -> None:
    """Remove what a killed node left below its subtree: cAdvisor stumbles over each for a minute."""
    for hierarchy in _hierarchies():
        for child in (hierarchy / cgroup.lstrip("/")).glob("*/"):
            _remove(child)


def remove(cgroup: str) -> None:
    """Remove the subtree from every hierarchy, waiting for killed processes to leave it."""
    for folder in folders(cgroup):
        _remove(folder)


def folders(cgroup: str) -> tuple[Path, ...]:
    """Return the subtree's folder in each hierarchy that has one."""
    found = (hierarchy / cgroup.lstrip("/") for hierarchy in _hierarchies())
    return tuple(folder for folder in found if folder.exists())


def is_v2() -> bool:
    """Tell whether this machine has the unified hierarchy only."""
    return (ROOT / "cgroup.controllers").exists()


def _hierarchies() -> tuple[Path, ...]:
    if is_v2():
        return (ROOT,)
    return tuple(sorted(path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()))


def _delegate(folder: Path) -> None:
    available = (folder / "cgroup.controllers").read_text().split()
    for controller in (name for name in _V2_CONTROLLERS if name in available):
        (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _LEAVE_S
    for path in sorted((folder, *folder.glob("**/")), key=lambda path: len(path.parts), reverse=True):
        while path.exists():
            try:
                path.rmdir()
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
