"""Provide a cluster of two nodes on this machine, without a container engine.  Needs root.

``up`` and ``down`` of one name never run at the same time: they hold a lock of the cache.
"""

import gzip
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from e2e.cluster import (
    addons,
    binaries,
    cache,
    certs,
    cgroups,
    control_plane,
    images,
    leftovers,
    machine,
    network,
    packages,
    paths,
    processes,
    registry,
)
from e2e.cluster import node as nodes
from e2e.cluster.faults import OnThisMachine
from e2e.cluster.interface import LAYERS, Say, with_needed
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.progress import stage

_ADDONS_END_S = 60


class Native:
    """A cluster whose nodes are processes with namespaces of their own."""

    image_prefix = nodes.IMAGE_PREFIX

    def __init__(self, name: str) -> None:
        self.name = name
        self._layout = paths.layout(name, cache.root() / "state")
        self._addons: Future[None] | None = None

    def up(self, layers: Collection[str] = LAYERS, say: Say = print, *, background: bool = False) -> None:
        layout = self._layout
        wanted = with_needed(layers)
        self._require_root()
        packages.ensure()
        network.check(layout)
        with cache.lock(f"cluster/{self.name}"):
            with stage(f"cluster {self.name}: network"):
                layout.state.mkdir(parents=True, exist_ok=True)
                machine.claim(layout)
                network.up(layout)
            with stage(f"cluster {self.name}: control plane"):
                control_plane.up(layout)
            if "nodes" in wanted:
                golden = images.golden_root()
                with stage(f"cluster {self.name}: nodes"):
                    registry.up(layout)
                    nodes.up(layout, self.kubectl, golden)
        if "addons" in wanted:
            self._start_addons(and_wait=not background)
        say(f"cluster {self.name}: up; export KUBECONFIG={self.kubeconfig}")

    def down(self) -> None:
        layout = self._layout
        self._require_root()
        if self._addons is not None:  # else kubectl would wait for a server that is gone
            wait([self._addons], timeout=_ADDONS_END_S)
            self._addons = None
        with cache.lock(f"cluster/{self.name}"), stage(f"cluster {self.name}: down"):
            for node in layout.nodes:
                nodes.stop(layout, node)
            control_plane.down(layout)
            registry.down(layout)
            network.down(layout)
            for node in layout.nodes:
                cgroups.remove(node.cgroup)
            if layout.state.exists():
                shutil.rmtree(layout.state)
            machine.release(layout)
        left = leftovers.find(layout)
        if left:
            raise RuntimeError(
                f"cluster {self.name}: down must leave nothing, found {'; '.join(left)}; remove it"
            )

    def status(self) -> dict[str, str]:
        layout = self._layout
        found = {
            name: f"pid {pid}" if (pid := processes.pid_of(layout.state, name)) else "not running"
            for name in (*control_plane.PROCESSES, registry.PROCESS, *(node.name for node in layout.nodes))
        }
        return found | {
            "kubeconfig": str(self.kubeconfig),
            "server": layout.server,
            "push images to": self.registry,
            "pods name them": self.image_prefix,
            "block": f"pods {layout.pods}, services {layout.services}, nodes {layout.lan}",
        }

    def restart_node(self, node: str) -> None:
        one, golden = self._layout.node(node), images.golden_root()
        with cache.lock(f"cluster/{self.name}"), stage(f"cluster {self.name}: restart {node}"):
            nodes.stop(self._layout, one)
            since = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
            nodes.start(self._layout, one, golden)
            nodes.wait_ready(one.name, nodes.GPUS[one.name], self.kubectl, since=since)

    @property
    def kubeconfig(self) -> Path:
        return self._layout.kubeconfig

    def pod_logs(self, namespace: str, container: str) -> Iterator[str]:
        """Yield the lines that containers of that name wrote, also of pods that are gone, in no order."""
        for node in self._layout.nodes:
            for file in (node.state / machine.MOUNT_POINTS["/var/log/pods"]).glob(
                f"{namespace}_*/{container}/*.log*"
            ):
                with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
                    # The runtime puts the time, the stream and a mark before each line.
                    yield from (line.split(" ", 3)[3].rstrip("\n") for line in lines if line.count(" ") > 2)

    @property
    def audit(self) -> Path:
        """Return what the product's accounts asked the API server for: one JSON event a line."""
        return self._layout.audit

    def user_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        return certs.user(self._layout, user, groups)

    @cached_property
    def kubectl(self) -> Kubectl:
        return Kubectl(
            binaries.ensure("kubernetes") / "kubectl", self.kubeconfig, self._layout.state / "kube-cache"
        )

    @property
    def registry(self) -> str:
        return self._layout.registry

    def gateway_address(self) -> tuple[str, int]:
        self._wait_for_addons()
        address: str = addons.gateway(self.kubectl)["status"]["addresses"][0]["value"]
        return address, 80

    def prometheus_url(self) -> str:
        self._wait_for_addons()
        namespace, name, port = addons.PROMETHEUS
        return f"http://{addons.service(self.kubectl, namespace, name)['clusterIP']}:{port}"

    @cached_property
    def faults(self) -> OnThisMachine:
        return OnThisMachine(
            self._layout,
            lambda: self.kubectl,
            lambda node: nodes.stop(self._layout, self._layout.node(node)),
        )

    def _require_root(self) -> None:
        if os.geteuid() != 0:
            raise RuntimeError(
                f"cluster {self.name}: native nodes need root, found user {os.geteuid()}; "
                "run as root, or name an existing cluster"
            )

    def _start_addons(self, *, and_wait: bool) -> None:
        wanted = addons.Addons(
            kubectl=self.kubectl,
            helm=binaries.ensure("helm") / "helm",
            chart=images.chart("envoy-gateway"),
            state=self._layout.state,
            images={
                "COREDNS": images.COREDNS,
                "PROMETHEUS": images.PROMETHEUS,
                "ENVOY": images.ENVOY,
                "ENVOY_GATEWAY": images.ENVOY_GATEWAY,
            },
            dns_address=str(self._layout.dns_address),
            service_type="ClusterIP",
        )
        pool = ThreadPoolExecutor(max_workers=1)
        self._addons = pool.submit(wanted.up)
        pool.shutdown(wait=False)  # takes no more work; the thread ends with this one
        if and_wait:
            self._wait_for_addons()

    def _wait_for_addons(self) -> None:
        if self._addons is not None:
            self._addons.result()
