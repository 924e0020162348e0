"""Keep what all clusters of one machine share: sysctls that kubelet writes, and empty folders to mount on.

The first cluster notes how the machine was, the last one restores it.  The note lies in /run, so
clusters with different caches see each other, and a reboot forgets it together with the values.
"""

import contextlib
import errno
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2e.cluster.paths import Layout

_NOTE = Path("/run/modelops-clusters.json")
_NETNS = Path("/run/netns")

SYSCTLS = (  # Source: kubelet 1.36, pkg/kubelet/cm, setupKernelTunables
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)

MOUNT_POINTS = {  # where a node expects its own folder: name in the node's state folder
    "/var/lib/kubelet": "kubelet",
    "/var/lib/containerd": "containerd",
    "/var/lib/modelops": "modelops",
    "/var/lib/cni": "cni",
    "/var/log/pods": "pods",
    "/var/log/containers": "containers",
    "/etc/cni/net.d": "net.d",
}


def claim(layout: Layout) -> None:
    """Note that the cluster uses this machine, and make the folders that nodes mount on.

    Raises:
        RuntimeError: a cluster of that name runs with its state elsewhere.
    """
    with _note() as note:
        owner = note["clusters"].setdefault(layout.name, str(layout.state))
        if owner != str(layout.state):
            raise RuntimeError(
                f"cluster {layout.name}: the name must be free on this machine, found its state in {owner}; "
                "choose another name, or take that cluster down first"
            )
        for folder in _missing(Path(point) for point in MOUNT_POINTS):
            folder.mkdir()
            note["folders"].append(str(folder))


def release(layout: Layout) -> None:
    """Forget the cluster; the last one restores the sysctls and removes the folders that claim made."""
    with _note() as note:
        note["clusters"].pop(layout.name, None)
        if note["clusters"]:
            return
        for name, value in note["sysctls"].items():
            _write_sysctl(name, value)
        for folder in reversed(note["folders"]):
            _remove_if_empty(Path(folder))
        if not note["had_netns"] and _NETNS.is_dir() and not any(_NETNS.iterdir()):
            subprocess.run(["umount", str(_NETNS)], check=False, capture_output=True)
            _NETNS.rmdir()


@contextlib.contextmanager
def _note() -> Iterator[dict[str, Any]]:
    lock = os.open(_NOTE.parent, os.O_RDONLY)  # the folder itself: a lock file would stay behind
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = json.loads(_NOTE.read_text()) if _NOTE.exists() else _as_found()
        yield note
        if note["clusters"]:
            partial = _NOTE.with_suffix(".partial")
            partial.write_text(json.dumps(note, indent=1))
            partial.replace(_NOTE)
        else:
            _NOTE.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _as_found() -> dict[str, Any]:
    values = {
        name: path.read_text().strip() for name in SYSCTLS if (path := Path("/proc/sys") / name).exists()
    }
    return {"clusters": {}, "sysctls": values, "folders": [], "had_netns": os.path.ismount(_NETNS)}


def _missing(folders: Iterator[Path]) -> list[Path]:
    """Return the folders that do not exist, and their missing parents, parents first."""
    wanted = {part for folder in folders for part in (folder, *folder.parents)}
    return sorted(part for part in wanted if not part.exists())


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder; one that another program uses by now (buildah locks /etc/cni/net.d) stays."""
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def _write_sysctl(name: str, value: str) -> None:
    path = Path("/proc/sys") / name
    if path.read_text().strip() != value:
        path.write_text(value)
