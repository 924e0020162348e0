"""Say what the `restricted` pod security level would refuse of a pod.

Source: Kubernetes documentation, Pod Security Standards, v1.36.
"""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""Kinds of volumes that a restricted pod may have."""


def refusals(spec: dict[str, Any]) -> list[str]:
    """Return a line for each field of a pod's *spec* that is not restricted enough."""
    return [*_pod(spec), *(line for c in _containers(spec) for line in _container(c, spec))]


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", ()), *spec["containers"], *spec.get("ephemeralContainers", ())]


def _pod(spec: dict[str, Any]) -> Iterator[str]:
    yield from (f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    for volume in spec.get("volumes", ()):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']}: {kinds - VOLUMES}"
    if spec.get("securityContext", {}).get("sysctls"):
        yield "sysctls are set"


def _container(container: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    own, shared = container.get("securityContext", {}), spec.get("securityContext", {})
    name = container["name"]
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield f"{name}: is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: may escalate"
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield f"{name}: has capabilities"
    if own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
        yield f"{name}: may run as root"
    if own.get("runAsUser", shared.get("runAsUser")) == 0:
        yield f"{name}: runs as root"
    profile = own.get("seccompProfile", shared.get("seccompProfile", {})).get("type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield f"{name}: has seccomp profile {profile}"
    yield from (f"{name}: has a host port" for port in container.get("ports", ()) if port.get("hostPort"))
