"""Install what the tests need inside a cluster: DNS, Prometheus, and a Gateway served by Envoy."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.kubectl import Kubectl, until
from e2e.cluster.progress import run, stage

GATEWAY = ("modelops-gateway", "modelops")
PROMETHEUS = ("monitoring", "prometheus", 9090)
PROMETHEUS_URL = "http://prometheus.monitoring.svc.cluster.local:9090"
"""Where pods find Prometheus."""

_MANIFESTS = Path(__file__).parent / "manifests"
_GATEWAY_S = 240


@dataclass(frozen=True, slots=True)
class Addons:
    """What to install, where from, and how the host will reach it."""

    kubectl: Kubectl
    helm: Path
    chart: Path
    state: Path
    images: Mapping[str, str]
    """Image references of COREDNS, PROMETHEUS, ENVOY and ENVOY_GATEWAY."""
    dns_address: str | None
    """ClusterIP for CoreDNS; None where the cluster has its own."""
    service_type: str
    """ClusterIP where the host has a route to it, else NodePort."""

    def up(self) -> None:
        """Install everything and wait until it works.

        DNS comes first: Envoy finds its control plane by name.
        """
        if self.dns_address is not None:
            with stage("add-on CoreDNS"):
                self.kubectl.apply(self._rendered("coredns"))
                self.kubectl.rollout("kube-system", "deployment/coredns")
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(step) for step in (self._prometheus, self._gateway)]:
                done.result()

    def _prometheus(self) -> None:
        with stage("add-on Prometheus"):
            self.kubectl.apply(self._rendered("prometheus"))
            self.kubectl.rollout("monitoring", "deployment/prometheus")

    def _gateway(self) -> None:
        with stage("add-on Envoy Gateway"):
            self._install_chart()
            self.kubectl.apply(self._rendered("gateway"))
            namespace, name = GATEWAY
            programmed = ("wait", "gateway", name, "-n", namespace, "--for=condition=Programmed")
            self.kubectl(*programmed, f"--timeout={_GATEWAY_S}s")

    def _install_chart(self) -> None:
        mark = self.state / "envoy-gateway.chart"
        if mark.exists() and mark.read_text() == str(self.chart):
            return
        home = self.state / "helm"
        run(
            [
                *(self.helm, "upgrade", "--install", "envoy-gateway", self.chart),
                *("--kubeconfig", self.kubectl.kubeconfig),
                *("--namespace", "envoy-gateway-system", "--create-namespace"),
                *("--set", f"global.images.envoyGateway.image={self.images['ENVOY_GATEWAY']}"),
                *("--set", "global.images.envoyGateway.pullPolicy=IfNotPresent"),
                *("--set", f"global.images.envoyProxy.image={self.images['ENVOY']}"),
                *("--set", "deployment.envoyGateway.resources.requests.cpu=50m"),
            ],
            env={f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")},
        )
        mark.write_text(str(self.chart))

    def _rendered(self, name: str) -> Path:
        values = {"DNS_ADDRESS": self.dns_address or "", "SERVICE_TYPE": self.service_type, **self.images}
        path = self.state / f"{name}.yaml"
        path.write_text(render((_MANIFESTS / f"{name}.yaml").read_text(), values))
        return path


def render(template: str, values: Mapping[str, str]) -> str:
    """Return the manifest with each ``@NAME@`` replaced by its value."""
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def gateway(kubectl: Kubectl) -> Mapping[str, Any]:
    """Return the Gateway once it is programmed and has an address.

    Raises:
        TimeoutError: it has none after the time that its installation may take.
    """
    namespace, name = GATEWAY
    found: dict[str, Any] = {}

    def is_programmed() -> bool:
        found.update(json.loads(kubectl("get", "gateway", name, "-n", namespace, "-o", "json")))
        status = found.get("status", {})
        programmed = [
            entry["status"] for entry in status.get("conditions", ()) if entry["type"] == "Programmed"
        ]
        return programmed == ["True"] and bool(status.get("addresses"))

    until(f"Gateway {namespace}/{name} programmed", is_programmed, timeout_s=_GATEWAY_S)
    return found


def service(kubectl: Kubectl, namespace: str, name: str) -> Mapping[str, Any]:
    """Return the spec of a Service."""
    spec: Mapping[str, Any] = json.loads(kubectl("get", "service", name, "-n", namespace, "-o", "json"))[
        "spec"
    ]
    return spec
