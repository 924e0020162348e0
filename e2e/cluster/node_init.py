"""Be the first process of a node: make its mounts, run its daemons, start them again, reap orphans.

Runs as ``python node_init.py CONFIG`` with namespaces of its own (mount, uts, pid, network); it
imports nothing of this project, so that it needs no path.  CONFIG is a JSON file:

    {"name": "n1",
     "binds": [["/state/kubelet", "/var/lib/kubelet"], ...],       source, target
     "daemons": [{"name": "kubelet", "argv": [...], "log": "/file", "after": "/run/a.sock"}, ...]}

``after`` is a path that must exist before the daemon starts; null starts it at once.  When this
process ends, the kernel ends everything in the node: a node crash is one SIGKILL.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

RESTART_S = 0.5
_running: dict[int, "Daemon"] = {}


class Daemon:
    """One program that is started again whenever it ends."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.argv: list[str] = given["argv"]
        self.log: str = given["log"]
        self.after: str | None = given["after"]
        self.not_before = 0.0  # monotonic seconds

    def may_start(self, now: float) -> bool:
        """Tell whether what it needs is there and its pause after the last end is over."""
        return now >= self.not_before and (self.after is None or os.path.exists(self.after))

    def start(self) -> None:
        """Start it and remember its id."""
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        pid = os.posix_spawn(
            self.argv[0],
            self.argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsigmask=(),
        )
        os.close(log)
        _running[pid] = self


def main(path: str) -> None:
    """Prepare the node, then keep its daemons running until this process is ended."""
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    socket.sethostname(config["name"])
    _mount(config["binds"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    daemons = [Daemon(given) for given in config["daemons"]]
    while True:
        now = time.monotonic()
        for daemon in daemons:
            if daemon not in _running.values() and daemon.may_start(now):
                daemon.start()
        _reap(time.monotonic())
        time.sleep(0.1)


def _mount(binds: list[list[str]]) -> None:
    """Give the node folders of its own at the standard places.

    The mounts are shared inside the node only: kubelet needs that to pass mounts on to
    containers, and the host's table must never have them.
    """
    _run("mount", "--make-rshared", "/")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for source, target in binds:
        _run("mount", "--bind", source, target)
        _run("mount", "--make-rshared", target)


def _reap(now: float) -> None:
    """Collect every ended process: daemons are noted, orphans (the shims) just go."""
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
            ended = _running.pop(pid, None)
            if ended is not None:
                ended.not_before = now + RESTART_S


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)


if __name__ == "__main__":
    main(sys.argv[1])
