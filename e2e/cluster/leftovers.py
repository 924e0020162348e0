"""Look for what a cluster that is down left on this machine.  Nothing is the only right answer."""

from pathlib import Path

from e2e.cluster import cgroups, network
from e2e.cluster.paths import Layout

_STARTED = ("etcd", "kube-", "kubelet", "containerd", "docker-registry", "nsenter", "unshare", "python")


def find(layout: Layout) -> tuple[str, ...]:
    """Return a line for what is left: process, mount, namespace, interface, route, cgroup, folder."""
    names = {layout.lan_netns, *(node.netns for node in layout.nodes)}
    found = [f"process {pid}: {words}" for pid, words in _processes(layout)]
    found += [
        f"mount {point}" for point in _mounts() if str(layout.state) in point or names & {Path(point).name}
    ]
    found += [f"network namespace {name}" for name in sorted(names & network.namespaces())]
    found += [f"interface {name}" for name in sorted({layout.interface} & network.interfaces())]
    found += [f"cgroup {folder}" for node in layout.nodes for folder in cgroups.folders(node.cgroup)]
    if (route := network.overlap(layout.block, network.routes())) is not None:
        found.append(f"route to {route}")
    if layout.state.exists():
        found.append(f"folder {layout.state}")
    return tuple(found)


def _processes(layout: Layout) -> list[tuple[int, str]]:
    """Return the processes that name a file in the cluster's folder: all that we start do.

    Somebody's own kubectl or tail may name one too, and is theirs to end.
    """
    wanted = f"{layout.state}/".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
        except OSError:  # it ended while we looked
            continue
        if wanted in words and Path(words.split(b"\0")[0].decode(errors="replace")).name.startswith(_STARTED):
            found.append((int(entry.parent.name), words.replace(b"\0", b" ").decode(errors="replace")[:120]))
    return found


def _mounts() -> tuple[str, ...]:
    return tuple(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
