"""The processes of the bench of the loop: a server, and operators that are measured one at a time."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from modelops.clients.kinds import resource_of
from tests.fakeapi.running import InProcess
from tests.serving.cluster import KEY, SETTINGS

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "modelops-system"
SETTLE_SECONDS = 6.0
"""So long a phase is over before memory is read."""
LOOK_SECONDS = 0.2
LIMIT_SECONDS = 900.0


def say(text: str) -> None:
    """Tell the person who waits."""
    print(f"bench-loop: {text}", file=sys.stderr, flush=True)


@contextmanager
def serving() -> Iterator[InProcess]:
    """Yield a server of the bench, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.loop_server"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), "the server of the bench did not start"
        yield InProcess(url, process.pid)
    finally:
        _end(process)


class Running:
    """One process of the operator."""

    def __init__(self, process: "subprocess.Popen[str]", started: float) -> None:
        self._process = process
        self.started = started

    def ask(self, command: str) -> Any:
        """Give a command of `loop_program` and return its answer.

        Raises:
            RuntimeError: the program ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise RuntimeError(f"the operator ended with {self._process.poll()}; its log says why") from error

    def cpu(self) -> float:
        """Return the CPU seconds, user and system, since the process began."""
        return float(self.ask("state")["cpu_s"])

    def until(self, what: str, *, steady_seconds: float = 0.0) -> float:
        """Wait until the state says *what*, for so long without a break; return when that began."""
        end = time.monotonic() + LIMIT_SECONDS
        since = None
        while time.monotonic() < end:
            is_true, now = bool(self.ask("state").get(what)), time.monotonic()
            since = (since or now) if is_true else None
            if since is not None and now - since >= steady_seconds:
                return since
            time.sleep(LOOK_SECONDS)
        raise RuntimeError(f"the operator was not {what} within {LIMIT_SECONDS:.0f} s")

    def settled(self) -> dict[str, float]:
        """Return its memory once it has been left alone for a while."""
        time.sleep(SETTLE_SECONDS)
        found: dict[str, float] = self.ask("memory")
        return found


@contextmanager
def operating(api: InProcess, folder: Path, name: str = "operator") -> Iterator[Running]:
    """Yield a new process of the operator; its log is ``<folder>/<name>.log``."""
    config, kubeconfig = _files(api.url, folder)
    program = (sys.executable, "-m", "tests.bench.loop_program")
    command = (*program, "--config", str(config), "--kubeconfig", str(kubeconfig))
    # As the image sets it.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "POD_NAME": name}
    with (folder / f"{name}.log").open("a") as log:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield Running(process, started)
        finally:
            _end(process)


def _files(url: str, folder: Path) -> tuple[Path, Path]:
    """Write the settings, with writes as fast as the server takes them, and the way to the server."""
    keys = folder / "keys"
    keys.write_text(KEY)
    settings = SETTINGS | {
        "namespace": NAMESPACE,
        "prometheus": {"url": "http://127.0.0.1:9"},
        "gate": {"hmacKeyFile": str(keys)},
        "writes": {"perSecond": 100000, "burst": 100000},
        "metricsPort": 0,
        "probesPort": 0,
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    kubeconfig = folder / "kubeconfig"
    named = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "operator"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    kubeconfig.write_text(yaml.safe_dump(named))
    return config, kubeconfig


def taken_lease() -> dict[str, Any]:
    """Return a Lease that somebody else holds for an hour."""
    resource = resource_of("coordination.k8s.io/v1", "Lease")
    stamp = "2026-01-05T09:00:00.000000Z"
    spec = {
        "holderIdentity": "somebody",
        "leaseDurationSeconds": 3600,
        "acquireTime": stamp,
        "renewTime": stamp,
        "leaseTransitions": 1,
    }
    meta = {"name": "modelops", "namespace": NAMESPACE}
    return {"apiVersion": resource.api_version, "kind": "Lease", "metadata": meta, "spec": spec}


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
