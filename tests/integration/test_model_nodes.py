"""A ModelNode between its two writers, on a real API server: who reads GPUs, and who delivers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import binaries
from e2e.nvml import Machine, ensure, environment, h100
from modelops.api import names

DEFINITION = Path(__file__).parents[2] / "crds" / "modelnodes.yaml"
MACHINE = Machine((h100(0), h100(1)))
CACHE = [
    {"digest": "sha256:" + "ab" * 32, "namespace": "team", "version": "chat-1", "phase": "Ready", "bytes": 7}
]

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def kubectl(api: Any) -> Iterator[Kubectl]:
    """kubectl as the administrator; the kind ModelNode is there."""
    program = binaries.ensure("kubernetes") / "kubectl"

    def run(*args: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [program, *args],
            env={**os.environ, "KUBECONFIG": str(api.kubeconfig)},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{args}: {done.stderr}"
        return done.stdout

    run("apply", "--server-side", "-f", str(DEFINITION))
    run("wait", "--for=condition=Established", "--timeout=30s", "-f", str(DEFINITION))
    yield run
    run("delete", "--wait", "-f", str(DEFINITION))


@pytest.fixture
def agent(api: Any, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The program on a node whose NVML is a file."""
    MACHINE.write(tmp_path / "machine")
    command = [sys.executable, "-m", "modelops", "nodes", "--node", "n1", "--seconds", "60", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--kubeconfig", str(api.kubeconfig)],
        env=environment(ensure(), tmp_path / "machine"),
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait()


def until(status: Callable[[], dict[str, Any]], happens: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + 30
    while not happens(found := status()):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def test_two_writers_share_a_model_node_and_people_see_it(
    kubectl: Kubectl, agent: subprocess.Popen[str], tmp_path: Path
) -> None:
    def status() -> dict[str, Any]:
        found = kubectl("get", "modelnodes", "n1", "--ignore-not-found", "-o", "json")
        return dict(json.loads(found).get("status") or {}) if found else {}

    def deliver(**told: Any) -> None:
        node = {
            "apiVersion": names.API_VERSION,
            "kind": "ModelNode",
            "metadata": {"name": "n1"},
            "status": told,
        }
        manager = f"--field-manager={names.DELIVERY_FIELD_MANAGER}"
        kubectl(
            "apply", "--server-side", manager, "--subresource=status", "-f", "-", stdin=yaml.safe_dump(node)
        )

    until(status, lambda found: found.get("healthyCount") == 2)
    deliver(cache=CACHE, disk={"totalBytes": 10, "freeBytes": 5})
    columns = kubectl("get", "modelnodes").splitlines()
    assert columns[0].split() == ["NAME", "PRODUCT", "GPUS", "FREE", "HEALTHY", "DRIVER", "AGE"]
    assert columns[1].split()[:7] == ["n1", "NVIDIA-H100-80GB-HBM3", "2", "158.2", "GiB", "2", "580.95.05"]

    MACHINE.with_xid(1, 79).write(tmp_path / "machine")
    broken = until(status, lambda found: found.get("healthyCount") == 1)
    assert [gpu.get("xid") for gpu in broken["gpus"]] == [None, 79]
    assert broken["cache"] == CACHE

    agent.send_signal(signal.SIGTERM)
    _, told = agent.communicate(timeout=10)
    assert agent.returncode == 0, told
    left = status()
    assert left["conditions"][0]["reason"] == "AgentStopped"
    assert [gpu["healthy"] for gpu in left["gpus"]] == [True, False], "a fault stays true"
    assert (left.get("freeMemory"), left["cache"]) == (None, CACHE)
    deliver()
    assert "cache" not in status()
    assert len(status()["gpus"]) == 2
