"""Provide a cluster by kind, where a container engine answers.

Written, and not run yet: no engine was at hand.  Its images come from the public registries; GPUs
and labels are the same as in the native cluster.  The GPU plugins run on this machine, on folders
that are mounted into the nodes.
"""

import json
import shutil
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import addons, binaries, cache, images, paths, processes
from e2e.cluster import node as nodes
from e2e.cluster.existing import impersonating
from e2e.cluster.faults import Anywhere, Faults
from e2e.cluster.interface import LAYERS, Say, with_needed
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.progress import CommandFailed, run, stage

_ENGINES = ("docker", "podman")
_WORKERS = {"n1": "worker", "n2": "worker2"}  # kind chooses these names
_REGISTRY = "docker.io/library/registry:2"
_IMAGES = {
    "PROMETHEUS": "docker.io/prom/prometheus:v3.15.0",
    "ENVOY": "docker.io/envoyproxy/envoy:distroless-v1.40.0",
    "ENVOY_GATEWAY": "docker.io/envoyproxy/gateway:v1.9.1",
}


def has_engine() -> bool:
    """Tell whether kind is installed and a container engine answers."""
    return shutil.which("kind") is not None and _engine() is not None


class Kind:
    """A cluster whose nodes are containers."""

    image_prefix = nodes.IMAGE_PREFIX

    def __init__(self, name: str) -> None:
        self.name = name
        self._layout = paths.layout(name, cache.root() / "state")
        self._kind_name = f"mo-{name}"

    def up(self, layers: Collection[str] = LAYERS, say: Say = print, *, background: bool = False) -> None:
        wanted = with_needed(layers)
        self._layout.state.mkdir(parents=True, exist_ok=True)
        with stage(f"cluster {self.name}: kind"):
            self._start_registry()
            self._create()
        if "nodes" in wanted:
            with stage(f"cluster {self.name}: GPUs"):
                self._start_gpus()
        if "addons" in wanted:
            self._addons().up()
        say(f"cluster {self.name}: up; export KUBECONFIG={self.kubeconfig}")

    def down(self) -> None:
        state = self._layout.state
        for name in processes.recorded(state):
            processes.stop(state, name)
        run(["kind", "delete", "cluster", "--name", self._kind_name], env=self._environment)
        run([self._engine_program, "rm", "--force", self._registry_name])
        if state.exists():
            shutil.rmtree(state)

    def status(self) -> dict[str, str]:
        return {
            "nodes": run(["kind", "get", "nodes", "--name", self._kind_name], env=self._environment).strip()
        }

    def restart_node(self, node: str) -> None:
        run([self._engine_program, "restart", self._worker(node)])
        nodes.wait_ready(self._worker(node), nodes.GPUS[node], self.kubectl)

    @property
    def kubeconfig(self) -> Path:
        return self._layout.kubeconfig

    def user_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        return impersonating(self.kubeconfig, user, groups)

    @cached_property
    def kubectl(self) -> Kubectl:
        program = shutil.which("kubectl") or binaries.ensure("kubernetes") / "kubectl"
        return Kubectl(Path(program), self.kubeconfig, self._layout.state / "kube-cache")

    @property
    def registry(self) -> str:
        """Return where images are pushed: a free port of this machine that the engine chose."""
        return run([self._engine_program, "port", self._registry_name, "5000/tcp"]).splitlines()[0].strip()

    def gateway_address(self) -> tuple[str, int]:
        addons.gateway(self.kubectl)
        owner = "gateway.envoyproxy.io/owning-gateway-name=" + addons.GATEWAY[1]
        listed: Any = json.loads(self.kubectl("get", "services", "-A", "-l", owner, "-o", "json"))["items"]
        return self._node_address(), int(listed[0]["spec"]["ports"][0]["nodePort"])

    def prometheus_url(self) -> str:
        namespace, name, _ = addons.PROMETHEUS
        port = addons.service(self.kubectl, namespace, name)["ports"][0]["nodePort"]
        return f"http://{self._node_address()}:{port}"

    @cached_property
    def faults(self) -> Faults:
        return Anywhere(lambda: self.kubectl)

    def _create(self) -> None:
        if self._kind_name in run(["kind", "get", "clusters"], env=self._environment).split():
            return
        layout = self._layout
        for node in layout.nodes:
            node.state.mkdir(parents=True, exist_ok=True)
            node.gpus.write_text(nodes.devices(node.name, nodes.GPUS[node.name]))
        hosts = layout.state / "certs.d" / nodes.IMAGE_PREFIX / "hosts.toml"
        hosts.parent.mkdir(parents=True, exist_ok=True)
        hosts.write_text(nodes.hosts_toml(f"http://{self._registry_name}:5000"))
        config = layout.state / "kind.yaml"
        config.write_text(yaml.safe_dump(_config(layout)))
        run(
            [
                *("kind", "create", "cluster", "--name", self._kind_name, "--wait", "3m"),
                *("--config", config, "--kubeconfig", self.kubeconfig),
            ],
            env=self._environment,
        )

    def _start_registry(self) -> None:
        running = run([self._engine_program, "ps", "--all", "--format", "{{.Names}}"]).split()
        if self._registry_name not in running:
            publish = ("--network", "kind", "--publish", "127.0.0.1::5000")
            networks = run([self._engine_program, "network", "ls", "--format", "{{.Name}}"]).split()
            if "kind" not in networks:
                run([self._engine_program, "network", "create", "kind"])
            run([self._engine_program, "run", "--detach", "--name", self._registry_name, *publish, _REGISTRY])

    def _start_gpus(self) -> None:
        for node in self._layout.nodes:
            name = f"{node.name}-gpu-plugin"
            if processes.pid_of(self._layout.state, name) is None:
                plugin = nodes.gpu_plugin(node.gpus, str(_plugins(node)))
                processes.start(self._layout.state, name, plugin)
            nodes.wait_ready(self._worker(node.name), nodes.GPUS[node.name], self.kubectl)

    def _addons(self) -> addons.Addons:
        helm = shutil.which("helm")
        return addons.Addons(
            kubectl=self.kubectl,
            helm=Path(helm) if helm else binaries.ensure("helm") / "helm",
            chart=images.chart("envoy-gateway"),
            state=self._layout.state,
            images=_IMAGES,
            dns_address=None,
            service_type="NodePort",
        )

    def _node_address(self) -> str:
        seen: Any = json.loads(self.kubectl("get", "node", self._worker("n1"), "-o", "json"))
        addresses: list[str] = [
            entry["address"] for entry in seen["status"]["addresses"] if entry["type"] == "InternalIP"
        ]
        return addresses[0]

    def _worker(self, node: str) -> str:
        return f"{self._kind_name}-{_WORKERS[node]}"

    @property
    def _registry_name(self) -> str:
        return f"{self._kind_name}-registry"

    @cached_property
    def _engine_program(self) -> str:
        found = _engine()
        if found is None:
            raise RuntimeError(
                f"provider kind: needs {' or '.join(_ENGINES)} to answer, found neither; start one"
            )
        return found

    @property
    def _environment(self) -> dict[str, str]:
        return {"KIND_EXPERIMENTAL_PROVIDER": self._engine_program}


def _config(layout: paths.Layout) -> dict[str, Any]:
    """Return kind's configuration: one control plane, and a worker per node with the plugin's folder."""
    certs = {"hostPath": str(layout.state / "certs.d"), "containerPath": "/etc/containerd/certs.d"}
    workers = [
        {
            "role": "worker",
            "extraMounts": [
                certs,
                {"hostPath": str(_plugins(node)), "containerPath": "/var/lib/kubelet/device-plugins"},
            ],
        }
        for node in layout.nodes
    ]
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"podSubnet": str(layout.pods), "serviceSubnet": str(layout.services)},
        "nodes": [{"role": "control-plane", "extraMounts": [certs]}, *workers],
        "containerdConfigPatches": [
            '[plugins."io.containerd.cri.v1.images".registry]\n  config_path = "/etc/containerd/certs.d"\n'
        ],
    }


def _plugins(node: paths.Node) -> Path:
    folder = node.state / "device-plugins"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _engine() -> str | None:
    """Return the first container engine that answers."""
    for name in _ENGINES:
        if shutil.which(name) is None:
            continue
        try:
            run([name, "info"])
        except CommandFailed:
            continue
        return name
    return None
