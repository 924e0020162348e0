"""What the scale bench runs on: a real API server and its controllers, kwok's nodes, the real operator."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import e2e.cluster
from e2e.cluster import Cluster, binaries, cache, images, processes
from e2e.cluster.control_plane import PROCESSES
from e2e.cluster.kubectl import Kubectl, until
from e2e.cluster.paths import layout
from e2e.cluster.progress import run, stage
from modelops.governance.countersign import MARGIN
from tests.bench import scale_objects as objects

ROOT = Path(__file__).parents[2]
NAME = "scale"
SYSTEM = "modelops-system"
ACCOUNT = "modelops"
APPROVER = "approver"
CRDS = ("gatewayclasses", "gateways", "httproutes")
_OPERATOR_SECONDS = 60.0
_END_SECONDS = 30.0
WORDS = 40
"""Lines of the operator's log that are shown when something fails."""


@dataclass(slots=True)
class Operator:
    """The running program, and where its metrics are."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def must_run(self) -> None:
        """Raise when it ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the operator must run, found it ended with {self.process.returncode}")

    def last_words(self) -> str:
        return "\n".join(self.log.read_text().splitlines()[-WORDS:])


@dataclass(frozen=True, slots=True)
class Platform:
    """Everything that runs."""

    admin: Path
    approver: Path
    kubectl: Kubectl
    operator: Operator
    state: Path

    def server_metrics(self) -> str:
        return self.kubectl("get", "--raw=/metrics")

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds that each program has used so far."""
        pids = {name: processes.pid_of(self.state, name) for name in (*PROCESSES, "kwok")}
        return {
            name: cpu_seconds(pid)
            for name, pid in {**pids, "operator": self.operator.process.pid}.items()
            if pid
        }


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> dict[str, float]:
    """Return what a process has in memory now, and had at most."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "rss": round(int(lines["VmRSS"].split()[0]) / 1024, 1),
        "peak": round(int(lines["VmHWM"].split()[0]) / 1024, 1),
    }


@contextmanager
def running(count: int, settings: Mapping[str, Any]) -> Iterator[Platform]:
    """Yield a platform with nodes for *count* services; at the end nothing of it is left.

    *settings* go into the operator's file over what the chart renders.
    """
    cluster = e2e.cluster.open(name=NAME, provider="native")
    where = layout(NAME, cache.root() / "state")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="modelops-scale-")))
        program = binaries.ensure("kwok") / "kwok"
        _down(cluster, where.state)  # what a run that was killed left behind
        stack.callback(_down, cluster, where.state)
        cluster.up(layers={"control-plane"})
        kubectl = cluster.kubectl
        _install(kubectl, cluster.kubeconfig, scratch)
        with stage(f"kwok: nodes for {count} services"):
            _start_kwok(program, cluster.kubeconfig, where.state, str(where.host_address), scratch)
            _populate(kubectl, count, scratch)
        operator = _start_operator(kubectl, scratch, settings)
        stack.callback(_end, operator)
        with stage("operator: leads and has seen everything"), telling(operator):
            until("the operator is synced", lambda: _is_synced(operator), timeout_s=_OPERATOR_SECONDS)
        with stage("approval gate: proven, and so long ago that new approvals are trusted"):
            _wait_for_gate(operator)
        approver = cluster.user_kubeconfig(APPROVER, (objects.APPROVERS,))
        yield Platform(cluster.kubeconfig, approver, kubectl, operator, where.state)


def _down(cluster: Cluster, state: Path) -> None:
    processes.stop(state, "kwok")
    cluster.down()


@contextmanager
def telling(operator: Operator) -> Iterator[None]:
    """Print the operator's last words when something fails."""
    try:
        yield
    except Exception:
        print(operator.last_words(), file=sys.stderr)
        raise


def _install(kubectl: Kubectl, kubeconfig: Path, scratch: Path) -> None:
    """Install the Gateway API's kinds and the chart, as a platform team would, but no pod of ours."""
    values = {
        "replicaCount": 0,
        "delivery": {"enabled": False},
        "nodes": {"enabled": False},
        "cleanup": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "image": {"repository": "registry.example.com/modelops"},
        "prometheus": {"url": "http://127.0.0.1:1"},
        "gateway": {
            "name": objects.GATEWAY,
            "namespace": objects.GATEWAY_NAMESPACE,
            "domain": "models.example.com",
        },
        "sources": {"allowedHosts": [objects.HUB]},
        "environments": {objects.ENVIRONMENT: {"approvals": 1, "separationOfDuties": True}},
    }
    (scratch / "values.json").write_text(json.dumps(values))
    with stage("chart"):
        folder = images.gateway_api_crds()
        kubectl.apply(*(folder / f"gateway.networking.k8s.io_{name}.yaml" for name in CRDS))
        run(
            [
                binaries.ensure("helm") / "helm",
                f"--kubeconfig={kubeconfig}",
                *("install", "modelops", ROOT / "charts" / "modelops"),
                *("--namespace", SYSTEM, "--create-namespace", "--values", scratch / "values.json"),
            ]
        )
        kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        # For some seconds after a CRD is made, the API server's stamping policies do not know its schema.
        probe = scratch / "probe.json"
        probe.write_text(json.dumps(objects.version(objects.Place("default", "probe"))))
        until(
            "versions can be made",
            lambda: bool(kubectl("create", "--dry-run=server", "-f", str(probe))),
            timeout_s=60,
        )


def _start_kwok(program: Path, kubeconfig: Path, state: Path, address: str, scratch: Path) -> None:
    text = (Path(__file__).parent / "scale_stages.yaml").read_text()
    stages = state / "kwok-stages.yaml"
    stages.write_text(text.replace("@FACTS@", json.dumps(json.dumps(objects.FACTS, separators=(",", ":")))))
    flags = {
        "kubeconfig": kubeconfig,
        "config": stages,
        "manage-all-nodes": "false",
        "manage-nodes-with-annotation-selector": "kwok.x-k8s.io/node=fake",
        "node-lease-duration-seconds": 40,
        "cidr": "10.90.0.0/16",
        "node-ip": address,
        "server-address": f"127.0.0.1:{free_port()}",
    }
    processes.start(state, "kwok", [str(program), *(f"--{key}={value}" for key, value in flags.items())])


def _populate(kubectl: Kubectl, count: int, scratch: Path) -> None:
    """Make nodes, namespaces, a Gateway and the operator's FlowSchema, and wait for the nodes."""
    nodes = objects.nodes(count)
    made = [*nodes, *objects.namespaces(objects.places(count)), *objects.gateway()]
    made.append(objects.flow_schema(SYSTEM, ACCOUNT))
    file = scratch / "objects.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))
    kubectl("create", "-f", str(file))

    def are_ready() -> bool:
        path = "jsonpath={range .items[*]}{.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}"
        return kubectl("get", "nodes", "-o", path).split().count("True") == len(nodes)

    until(f"{len(nodes)} nodes are Ready", are_ready, timeout_s=120)


def _start_operator(kubectl: Kubectl, scratch: Path, settings: Mapping[str, Any]) -> Operator:
    """Start the program with the chart's own settings, key and rights."""
    config = json.loads(kubectl("get", "configmap", "modelops", "-n", SYSTEM, "-o", "json"))
    secret = json.loads(kubectl("get", "secret", "modelops-gate", "-n", SYSTEM, "-o", "json"))
    keys = scratch / "keys"
    keys.touch(mode=0o600)
    keys.write_bytes(base64.b64decode(secret["data"]["keys"]))
    port = free_port()
    text = yaml.safe_load(config["data"]["config.yaml"])
    text["gate"]["hmacKeyFile"] = str(keys)
    text |= {
        "namespace": SYSTEM,
        "identity": "bench",
        "metricsPort": port,
        "probesPort": free_port(),
        **settings,
    }
    (scratch / "config.yaml").write_text(yaml.safe_dump(text))
    log = scratch / "operator.log"
    command = [sys.executable, "-m", "modelops", "operator", "--log-format", "plain"]
    command += ["--config", str(scratch / "config.yaml"), "--kubeconfig", str(_account(kubectl, scratch))]
    with log.open("wb") as out:
        # The environment of a container: one arena of malloc, as the image sets it.
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "MALLOC_ARENA_MAX": "2"}
        )
    return Operator(process, port, log)


def _account(kubectl: Kubectl, scratch: Path) -> Path:
    """Return a kubeconfig of the operator's service account: its rights are the chart's."""
    token = kubectl("create", "token", ACCOUNT, "-n", SYSTEM, "--duration=6h").strip()
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    path = scratch / "operator.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


def _is_synced(operator: Operator) -> bool:
    operator.must_run()
    with contextlib.suppress(OSError):
        return "modelops_synced 1.0" in operator.metrics().splitlines()
    return False


def _end(operator: Operator) -> None:
    operator.process.send_signal(signal.SIGTERM)
    try:
        operator.process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        operator.process.kill()
        operator.process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for_gate(operator: Operator) -> None:
    line = 'modelops_approval_gate{state="Enforced"} 1.0'

    def is_proven() -> bool:
        return line in operator.metrics().splitlines()

    until("the approval gate is in force", is_proven, timeout_s=_OPERATOR_SECONDS)
    time.sleep(MARGIN.total_seconds() + 1)
