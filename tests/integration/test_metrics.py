"""What a leader and a standby really answer at /metrics: the programs, every kind, a real API server."""

import base64
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster import binaries
from e2e.cluster.progress import run
from tests.alerts.rules import exported, names_in, rules

ROOT = Path(__file__).parents[2]
LEADERS_ONLY = (
    "modelops_inferenceservices",
    "modelops_rollouts",
    "modelops_approval_gate",
    "modelops_watch_up",
)
"""What a standby must not say: it does not know, and 0 would be a lie."""


@dataclass
class Replica:
    """One process of the operator."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def text(self) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def value(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the samples of *name* by their labels' values; none while it does not answer."""
        return {
            tuple(sample.labels.values()): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
            if sample.name == name
        }

    def wait(self, what: Callable[[], bool], seconds: float = 40) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"{self.text()}\n{self.log.read_text()}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def installed(api: Any) -> Iterator[str]:
    """The kinds, and a namespace for the Leases of this module."""
    kubectl = [binaries.ensure("kubernetes") / "kubectl", f"--kubeconfig={api.kubeconfig}"]
    name = f"metrics-{secrets.token_hex(4)}"
    run([*kubectl, "apply", "--server-side", "--force-conflicts", "-f", ROOT / "crds"])
    run([*kubectl, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])
    run([*kubectl, "create", "namespace", name])
    yield name
    run([*kubectl, "delete", "namespace", name, "--wait=false"])


@pytest.fixture
def start(api: Any, installed: str, tmp_path: Path) -> Iterator[Callable[[str], Replica]]:
    """Start replicas of the operator; whatever still runs at the end is killed."""
    started: list[Replica] = []
    (tmp_path / "keys").write_bytes(base64.b64encode(secrets.token_bytes(32)))

    def begin(identity: str) -> Replica:
        port = free_port()
        config = {
            "identity": identity,
            "namespace": installed,
            "prometheus": {"url": "http://127.0.0.1:1"},
            "images": {"operator": "modelops:test"},
            "gate": {"hmacKeyFile": str(tmp_path / "keys")},
            "metricsPort": port,
            "probesPort": free_port(),
        }
        path, log = tmp_path / f"{identity}.yaml", tmp_path / f"{identity}.log"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "modelops", "operator", "--config", path]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--kubeconfig", api.kubeconfig], stdout=out, stderr=subprocess.STDOUT
            )
        started.append(Replica(process, port, log))
        return started[-1]

    yield begin
    for replica in started:
        replica.process.kill()
        replica.process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_every_replica_tells_the_truth_about_itself_and_only_the_leader_about_the_fleet(start):
    leader = start("a")
    leader.wait(lambda: leader.value("modelops_synced") == {(): 1})
    standby = start("b")
    standby.wait(lambda: standby.value("modelops_leader") != {})
    for name, wanted in (
        ("modelops_leader", (1, 0)),
        ("modelops_synced", (1, 0)),
        ("modelops_workers", (8, 8)),
        ("modelops_workers_alive", (8, 0)),
        ("modelops_queue_depth", (0, 0)),
    ):
        assert (leader.value(name), standby.value(name)) == ({(): wanted[0]}, {(): wanted[1]}), name
    for name in LEADERS_ONLY:
        assert leader.value(name), name
        assert not standby.value(name), name
    assert set(leader.value("modelops_watch_up").values()) == {1}
    assert standby.value("modelops_api_requests_total")

    leader.process.send_signal(signal.SIGTERM)
    assert leader.process.wait(25) == 0
    standby.wait(lambda: standby.value("modelops_synced") == {(): 1})
    assert standby.value("modelops_leader") == {(): 1}
    assert standby.value("modelops_workers_alive") == {(): 8}


def test_the_gate_that_is_not_installed_is_told_as_open(start):
    replica = start("a")
    replica.wait(lambda: replica.value("modelops_approval_gate").get(("NotEnforced",)) == 1)
    assert replica.value("modelops_approval_gate") == {
        ("Enforced",): 0,
        ("NotEnforced",): 1,
        ("NotProven",): 0,
    }


def test_prometheus_finds_nothing_to_blame_and_every_metric_of_an_alert_is_there(start):
    leader = start("a")
    leader.wait(lambda: leader.value("modelops_synced") == {(): 1})
    text = leader.text()
    done = subprocess.run(
        [binaries.ensure("prometheus") / "promtool", "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    blamed = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("modelops_")]
    assert blamed == []
    families = {family.name: family for family in text_string_to_metric_families(text)}
    ours = {name: family for name, family in families.items() if name.startswith("modelops_")}
    assert all(family.documentation.endswith(".") for family in ours.values())
    there = {f"{family.name}_total" if family.type == "counter" else family.name for family in ours.values()}
    agents = ("modelops_delivery_", "modelops_nodes_", "modelops_gpu_", "modelops_agent_")
    of_agents = {name for name in exported() if name.startswith(agents)}
    for alert, rule in rules().items():
        wanted = {name.removesuffix("_bucket") for name in names_in(rule["expr"]) - of_agents}
        assert wanted <= there, alert


def test_no_series_is_told_twice(start):
    leader = start("a")
    leader.wait(lambda: leader.value("modelops_synced") == {(): 1})
    lines = [line.rsplit(" ", 1)[0] for line in leader.text().splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
