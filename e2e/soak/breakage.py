"""What each fault does to a cluster on this machine."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from e2e.cluster.native import Native
from e2e.cluster.progress import CommandFailed
from e2e.quickstart.platform import NAMESPACE, SYSTEM
from e2e.soak.schedule import Fault, Planned
from e2e.soak.verdict import Kill

GATEWAYS = "envoy-gateway-system"
SERVES = "modelops.dev/service=chat"
_PATIENCE_S = 30.0


@dataclass
class Breakage:
    """Break one cluster, and remember which serving pods were killed."""

    cluster: Native
    sleep: Callable[[float], None] = time.sleep
    kills: list[Kill] = field(default_factory=list)

    def do(self, planned: Planned) -> str:
        """Carry out one fault and say who was hit; empty: there was nobody to hit."""
        match planned.fault:
            case Fault.API_SERVER:
                self.cluster.faults.restart_api_server()
                return "ready again"
            case Fault.ETCD:
                return self._stop(self.cluster.faults.control_plane("etcd"), planned.seconds)
            case Fault.KUBELET_STOPPED:
                node = self._node(planned)
                return f"{node} {self._stop(self.cluster.faults.kubelet(node), planned.seconds)}"
            case Fault.KUBELET_KILLED:
                node = self._node(planned)
                self.cluster.faults.kill_kubelet(node)
                return node
            case Fault.SERVING_POD:
                return self._kill_serving(planned)
            case Fault.PROMETHEUS:
                return self._kill_one(planned, "monitoring", "app=prometheus", "prometheus")
            case Fault.GATEWAY:
                where = "control-plane=envoy-gateway"
                return self._kill_one(planned, GATEWAYS, where, "envoy-gateway")
            case Fault.AGENT:
                return self._kill_one(planned, SYSTEM, "app.kubernetes.io/component=delivery", "")
            case Fault.LEADER:
                return self._kill_leader()

    def _node(self, planned: Planned) -> str:
        return str(_picked(("n1", "n2"), planned.draw))

    def _stop(self, pids: tuple[int, ...], seconds: float) -> str:
        """Stop processes for a while; they are let go whatever happens."""
        self.cluster.faults.freeze(pids)
        try:
            self.sleep(seconds)
        finally:
            self.cluster.faults.thaw(pids)
        return f"for {seconds} s"

    def _kill_serving(self, planned: Planned) -> str:
        """Kill a ready pod at once and for good, where another one is ready to take its requests."""
        ready = [pod for pod in self._pods(NAMESPACE, SERVES) if _is_ready(pod)]
        by_revision: dict[str, list[dict[str, Any]]] = {}
        for pod in ready:
            by_revision.setdefault(pod["metadata"]["labels"]["modelops.dev/revision"], []).append(pod)
        spare = [pod for pods in by_revision.values() if len(pods) > 1 for pod in pods]
        if not spare:
            return ""
        pod = _picked(spare, planned.draw)
        name = pod["metadata"]["name"]
        pids = [pid for c in ("engine", "meter") for pid in self.cluster.faults.pids(NAMESPACE, name, c)]
        self.kills.append(Kill(name, pod["status"]["podIP"], time.time()))
        self.cluster.faults.kill(pids)
        self._kubectl("delete", "pod", name, "-n", NAMESPACE, "--grace-period=0", "--force", "--wait=false")
        return str(name)

    def _kill_one(self, planned: Planned, namespace: str, labels: str, container: str) -> str:
        pods = [pod for pod in self._pods(namespace, labels) if _is_ready(pod)]
        if not pods:
            return ""
        pod = _picked(pods, planned.draw)
        name = pod["metadata"]["name"]
        self.cluster.faults.kill(
            self.cluster.faults.pids(namespace, name, container or pod["spec"]["containers"][0]["name"])
        )
        return str(name)

    def _kill_leader(self) -> str:
        lease = json.loads(self._kubectl("get", "lease", "modelops", "-n", SYSTEM, "-o", "json"))
        leader: str = (lease["spec"].get("holderIdentity") or "").rpartition("_")[0]
        if not leader or not any(pod["metadata"]["name"] == leader for pod in self._pods(SYSTEM, "")):
            return ""
        self.cluster.faults.kill(self.cluster.faults.pids(SYSTEM, leader, "operator"))
        return leader

    def _pods(self, namespace: str, labels: str) -> list[dict[str, Any]]:
        chosen = ("-l", labels) if labels else ()
        told = self._kubectl("get", "pods", "-n", namespace, *chosen, "-o", "json")
        found: list[dict[str, Any]] = json.loads(told)["items"]
        return found

    def _kubectl(self, *args: str) -> str:
        """Ask until the API server, which may be on its way back, answers."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self.cluster.kubectl(*args, "--request-timeout=10s")
            except CommandFailed as error:
                if "not found" in str(error).lower() or time.monotonic() > deadline:
                    raise
            self.sleep(0.5)


def _picked(among: Sequence[Any], draw: float) -> Any:
    return among[int(draw * len(among))]


def _is_ready(pod: dict[str, Any]) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod["status"].get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
