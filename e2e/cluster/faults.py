"""Break a cluster, one line per breakage."""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from e2e.cluster import control_plane, processes
from e2e.cluster.kubectl import Kubectl, until
from e2e.cluster.paths import Layout

_GONE_S = 60
# A Failed pod stays listed after its ReplicaSet made another one.
_ALIVE = ("--field-selector", "status.phase!=Failed,status.phase!=Succeeded")


class NotPossible(RuntimeError):
    """This provider cannot break that; the text names one that can."""


class Faults(Protocol):
    """What every provider can break."""

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Scale a Deployment and wait until exactly that many pods are left, all of them ready."""

    def gpu(self, node: str, index: int, *, healthy: bool) -> None:
        """Turn one pretend GPU of a node broken or well; kubelet follows within 3 s."""

    def kill_node(self, node: str) -> None:
        """Crash a node: everything in it ends at once.  ``restart-node`` or ``up`` starts it again."""

    def kill_kubelet(self, node: str) -> None:
        """Kill a node's kubelet; it is started again."""

    def pids(self, namespace: str, pod: str, container: str) -> tuple[int, ...]:
        """Return the ids, on this machine, of a container's processes, parents first."""

    def freeze(self, pids: Iterable[int]) -> None:
        """Stop processes without ending them (SIGSTOP)."""

    def thaw(self, pids: Iterable[int]) -> None:
        """Let frozen processes go on."""

    def kill(self, pids: Iterable[int]) -> None:
        """Kill processes (SIGKILL), with no chance to say goodbye."""


class Anywhere:
    """The breakages that need nothing but the API server."""

    def __init__(self, kubectl: Callable[[], Kubectl]) -> None:
        self._kubectl = kubectl

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        kubectl = self._kubectl()
        kubectl("scale", "-n", namespace, f"deployment/{deployment}", f"--replicas={replicas}")
        kubectl.rollout(namespace, f"deployment/{deployment}")
        seen = json.loads(kubectl("get", "deployment", deployment, "-n", namespace, "-o", "json"))
        selector = ",".join(
            f"{key}={value}" for key, value in seen["spec"]["selector"]["matchLabels"].items()
        )

        def is_settled() -> bool:
            return (
                len(kubectl("get", "pods", "-n", namespace, "-l", selector, *_ALIVE, "-o", "name").split())
                == replicas
            )

        until(f"{namespace}/{deployment}: {replicas} pods", is_settled, timeout_s=_GONE_S)

    def gpu(self, node: str, index: int, *, healthy: bool) -> None:
        raise NotPossible(_native("a broken GPU"))

    def kill_node(self, node: str) -> None:
        raise NotPossible(_native("a killed node"))

    def kill_kubelet(self, node: str) -> None:
        raise NotPossible(_native("a killed kubelet"))

    def pids(self, namespace: str, pod: str, container: str) -> tuple[int, ...]:
        raise NotPossible(_native("the processes of a container"))

    def freeze(self, pids: Iterable[int]) -> None:
        _signal(pids, signal.SIGSTOP)

    def thaw(self, pids: Iterable[int]) -> None:
        _signal(pids, signal.SIGCONT)

    def kill(self, pids: Iterable[int]) -> None:
        _signal(pids, signal.SIGKILL)


class OnThisMachine(Anywhere):
    """The breakages of a cluster whose nodes are processes of this machine."""

    def __init__(self, layout: Layout, kubectl: Callable[[], Kubectl], crash: Callable[[str], None]) -> None:
        super().__init__(kubectl)
        self._layout = layout
        self._crash = crash

    def gpu(self, node: str, index: int, *, healthy: bool) -> None:
        file = self._layout.node(node).gpus
        given = json.loads(file.read_text())
        device = f"GPU-{node}-{index}"
        if device not in given["devices"]:
            raise ValueError(
                f"{node}: GPU must be one of {', '.join(given['devices'])}, found {index}; name one of them"
            )
        given["devices"][device] = "Healthy" if healthy else "Unhealthy"
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(given))
        partial.replace(file)

    def kill_node(self, node: str) -> None:
        self._crash(node)

    def kill_kubelet(self, node: str) -> None:
        self.kill(self.kubelet(node))

    def kubelet(self, node: str) -> tuple[int, ...]:
        """Return the ids of a node's kubelet: one, or none while it is started again."""
        return _running(self._first_process(node), "kubelet")

    def control_plane(self, name: str) -> tuple[int, ...]:
        """Return the id of one of `control_plane.PROCESSES`; none when it does not run."""
        pid = processes.pid_of(self._layout.state, name)
        return () if pid is None else (pid,)

    def restart_api_server(self) -> None:
        """Kill the API server and wait until the next one is ready."""
        control_plane.restart_api_server(self._layout)

    def pids(self, namespace: str, pod: str, container: str) -> tuple[int, ...]:
        seen: Any = json.loads(self._kubectl()("get", "pod", pod, "-n", namespace, "-o", "json"))
        statuses = [
            *seen["status"].get("containerStatuses", ()),
            *seen["status"].get("initContainerStatuses", ()),
        ]
        ids = [status.get("containerID", "") for status in statuses if status["name"] == container]
        if not ids or not ids[0]:
            raise LookupError(
                f"{namespace}/{pod}: container {container} must have started, found none; wait for it"
            )
        return _in_cgroup(ids[0].rpartition("/")[2])

    def _first_process(self, node: str) -> int:
        pid = processes.pid_of(self._layout.state, self._layout.node(node).name)
        if pid is None:
            raise LookupError(f"{node}: the node must run, found it stopped; start it with restart-node")
        return pid


def _native(what: str) -> str:
    return f"cluster: {what} needs nodes that this machine runs itself, found others; use provider native"


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _running(root: int, name: str) -> tuple[int, ...]:
    """Return the descendants of *root*, at most three generations below, whose program is *name*."""
    found: list[int] = []
    generation: tuple[int, ...] = (root,)
    for _ in range(3):  # unshare, then the node's first process, then its daemons
        generation = tuple(child for pid in generation for child in processes.children(pid))
        found += [pid for pid in generation if _program(pid) == name]
    return tuple(found)


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _in_cgroup(container_id: str) -> tuple[int, ...]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if container_id in entry.read_text():
                found.append(int(entry.parent.name))
    return tuple(sorted(found))
