"""Run a node: containerd, kubelet, kube-proxy and the GPU plugin in namespaces of their own."""

import json
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries, cgroups, images, machine, network, processes
from e2e.cluster.kubectl import Kubectl, until
from e2e.cluster.paths import Layout, Node
from e2e.cluster.progress import run

IMAGE_PREFIX = "modelops.test"
"""The registry's name in image references; each node's containerd resolves it to the real address."""

_CONTAINERD = "/run/containerd/containerd.sock"
_DEVICE_PLUGINS = "/var/lib/kubelet/device-plugins"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_READY_S = 120
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Gpu:
    """What the pretend GPUs of a node are, in the words of NVIDIA's feature discovery."""

    count: int
    product: str
    memory_mib: int
    family: str
    compute: tuple[int, int]
    zone: str


GPUS: Mapping[str, Gpu] = {
    "n1": Gpu(4, "NVIDIA-H100-80GB-HBM3", 81559, "hopper", (9, 0), "zone-a"),
    "n2": Gpu(8, "NVIDIA-L4", 23034, "ada-lovelace", (8, 9), "zone-b"),
}


def up(layout: Layout, kubectl: Kubectl, golden: Path) -> None:
    """Start the nodes that do not run, and wait until all are Ready with their GPUs and labels.

    *golden* is a containerd root that holds the images.
    """
    for node in layout.nodes:
        start(layout, node, golden)
    for node in layout.nodes:
        wait_ready(node.name, GPUS[node.name], kubectl)


def start(layout: Layout, node: Node, golden: Path) -> None:
    """Start the node's first process if it does not run; what a killed node left is removed first."""
    if processes.pid_of(layout.state, node.name) is not None:
        return
    _prepare(layout, node, golden)
    processes.start(
        layout.state,
        node.name,
        (
            *network.inside(node.netns),
            *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("--propagation", "private", sys.executable, "-I", "-S", str(_HERE / "node_init.py")),
            str(node.state / "node.json"),
        ),
        env={"PATH": f"{binaries.ensure('containerd')}:{_PATH}"},
    )


def stop(layout: Layout, node: Node) -> None:
    """Crash the node: everything in it ends with its first process."""
    processes.stop(layout.state, node.name, how=signal.SIGKILL)


def wait_ready(name: str, gpu: Gpu, kubectl: Kubectl, *, since: datetime | None = None) -> None:
    """Label the node as soon as it is known; wait until it is Ready and offers its GPUs.

    What it said before *since* does not count: a node that was just killed still looks Ready.
    """
    until(
        f"node {name} registered",
        lambda: kubectl("get", "node", name, "--ignore-not-found", "-o", "name") != "",
        timeout_s=_READY_S,
    )
    # Not kubelet's --node-labels: they count only when the node object is made.
    kubectl("label", "--overwrite", "node", name, *(f"{key}={value}" for key, value in labels(gpu).items()))

    def is_ready() -> bool:
        seen = json.loads(kubectl("get", "node", name, "-o", "json"))["status"]
        ready = next((entry for entry in seen.get("conditions", ()) if entry["type"] == "Ready"), None)
        if (
            ready is None
            or ready["status"] != "True"
            or seen["allocatable"].get("nvidia.com/gpu", "0") == "0"
        ):
            return False
        return since is None or datetime.fromisoformat(ready["lastHeartbeatTime"]) >= since

    until(f"node {name} Ready with GPUs", is_ready, timeout_s=_READY_S)


def devices(node: str, gpu: Gpu) -> str:
    """Return what the GPU plugin reads: all devices of a node, all well."""
    found = {f"GPU-{node}-{index}": "Healthy" for index in range(gpu.count)}
    return json.dumps({"resource": "nvidia.com/gpu", "devices": found})


def labels(gpu: Gpu) -> dict[str, str]:
    """Return the node's labels as NVIDIA's GPU feature discovery sets them, and its zone.

    Source: nvidia k8s-device-plugin 0.20, docs/gpu-feature-discovery; values for driver 580 with CUDA 13.
    """
    nvidia = {
        "gpu.present": "true",
        "gpu.product": gpu.product,
        "gpu.memory": str(gpu.memory_mib),
        "gpu.count": str(gpu.count),
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
        "gpu.family": gpu.family,
        "gpu.compute.major": str(gpu.compute[0]),
        "gpu.compute.minor": str(gpu.compute[1]),
        "gpu.machine": "Pretend-Server",
        "gpu.mode": "compute",
        "mig.capable": str(gpu.family == "hopper").lower(),
        "mig.strategy": "single",
        "mps.capable": "false",
        "vgpu.present": "false",
        "cuda.driver-version.major": "580",
        "cuda.driver-version.minor": "95",
        "cuda.driver-version.revision": "05",
        "cuda.driver-version.full": "580.95.05",
        "cuda.runtime-version.major": "13",
        "cuda.runtime-version.minor": "0",
        "cuda.runtime-version.full": "13.0",
    }
    return {f"nvidia.com/{name}": value for name, value in nvidia.items()} | {
        "topology.kubernetes.io/zone": gpu.zone
    }


def _prepare(layout: Layout, node: Node, golden: Path) -> None:
    for folder in machine.MOUNT_POINTS.values():
        (node.state / folder).mkdir(parents=True, exist_ok=True)
    (node.state / "logs").mkdir(exist_ok=True)
    cgroups.make(node.cgroup)
    cgroups.prune(node.cgroup)
    shutil.rmtree(
        node.state / "cni" / "networks", ignore_errors=True
    )  # addresses of pods that died with the node
    for leftover in (node.state / "kubelet" / "device-plugins").glob("*.sock"):
        leftover.unlink()
    _take_images(node, golden)
    if not node.gpus.exists():
        node.gpus.write_text(devices(node.name, GPUS[node.name]))
    _write(node.state / "containerd.toml", containerd_config(layout))
    _write(node.state / "kubelet.yaml", yaml.safe_dump(_kubelet(layout, node)))
    _write(node.state / "net.d" / "10-pods.conflist", json.dumps(_cni(node)))
    _write(layout.state / "certs.d" / IMAGE_PREFIX / "hosts.toml", hosts_toml(f"http://{layout.registry}"))
    _write(node.state / "node.json", json.dumps(_init(layout, node), indent=1))


def _take_images(node: Node, golden: Path) -> None:
    """Give the node a containerd root with all images, in a moment and without disk: by hard links.

    Blobs and snapshots are never written again; the two databases are, so they are copied.
    """
    mark, root = node.state / "golden", node.state / "containerd"
    if mark.exists() and mark.read_text() == str(golden):
        return
    shutil.rmtree(root)
    run(["cp", "-al", golden, root])
    for database in root.rglob("*.db"):
        own = database.with_suffix(".own")
        shutil.copy2(database, own)
        own.replace(database)
    mark.write_text(str(golden))


def _init(layout: Layout, node: Node) -> dict[str, Any]:
    kubernetes, containerd = binaries.ensure("kubernetes"), binaries.ensure("containerd")
    pki = layout.pki
    daemons: dict[str, tuple[list[str], str | None]] = {
        "containerd": ([f"{containerd}/containerd", "--config", f"{node.state}/containerd.toml"], None),
        "kubelet": (
            [
                f"{kubernetes}/kubelet",
                f"--config={node.state}/kubelet.yaml",
                f"--kubeconfig={pki}/kubelet-{node.name}.kubeconfig",
                f"--node-ip={node.address}",
            ],
            _CONTAINERD,  # kubelet ends when it finds no runtime
        ),
        "kube-proxy": (
            [
                f"{kubernetes}/kube-proxy",
                f"--kubeconfig={pki}/kube-proxy.kubeconfig",
                "--proxy-mode=nftables",
                f"--cluster-cidr={layout.pods}",  # what comes from the host gets its answer by the same way
                "--conntrack-max-per-core=0",  # these sysctls are not a node's to write
                "--conntrack-min=0",
            ],
            None,
        ),
        "gpu-plugin": (
            gpu_plugin(node.gpus, _DEVICE_PLUGINS),
            f"{_DEVICE_PLUGINS}/kubelet.sock",
        ),
    }
    return {
        "name": node.name,
        "binds": [[f"{node.state}/{folder}", point] for point, folder in machine.MOUNT_POINTS.items()],
        "daemons": [
            {"name": name, "argv": argv, "log": f"{layout.logs}/{node.name}-{name}.log", "after": after}
            for name, (argv, after) in daemons.items()
        ],
    }


def gpu_plugin(file: Path, folder: str) -> list[str]:
    """Return the words that run the GPU plugin on kubelet's device plugin *folder*."""
    return [sys.executable, str(_HERE / "gpu_plugin.py"), str(file), folder]


def hosts_toml(url: str) -> str:
    """Return what tells containerd to pull from the registry at *url*."""
    return f'server = "{url}"\n[host."{url}"]\n  capabilities = ["pull", "resolve"]\n'


def containerd_config(layout: Layout) -> str:
    """Return containerd's settings, in TOML."""
    cri = "io.containerd.cri.v1"
    runc = f'[plugins."{cri}.runtime".containerd.runtimes.runc'
    return f"""version = 3
# These make folders in /opt, outside of the node.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[plugins."{cri}.images".pinned_images]
  sandbox = "{images.PAUSE}"
[plugins."{cri}.images".registry]
  config_path = "{layout.state}/certs.d"
[plugins."{cri}.runtime"]
  restrict_oom_score_adj = true
[plugins."{cri}.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "/etc/cni/net.d"
{runc}]
  runtime_type = "io.containerd.runc.v2"
{runc}.options]
  SystemdCgroup = false
  BinaryName = "/usr/sbin/runc"
"""


def _kubelet(layout: Layout, node: Node) -> dict[str, Any]:
    pki = layout.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/kubelet-{node.name}.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet-{node.name}.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{_CONTAINERD}",
        "clusterDNS": [str(layout.dns_address)],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "5s",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }


def _cni(node: Node) -> dict[str, Any]:
    """Return the pod network: a routed pair per pod.

    A bridge would carry an answer between two pods of a node past kube-proxy's rules, unless the
    kernel filters bridges.
    """
    subnet = {"subnet": str(node.pods)}
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {"type": "host-local", "ranges": [[subnet]], "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
